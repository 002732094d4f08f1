package lakehouse.connect;

import static org.apache.kafka.common.config.ConfigDef.Importance.HIGH;
import static org.apache.kafka.common.config.ConfigDef.Importance.LOW;
import static org.apache.kafka.common.config.ConfigDef.Importance.MEDIUM;
import static org.apache.kafka.common.config.ConfigDef.NO_DEFAULT_VALUE;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.NonEmptyString;
import org.apache.kafka.common.config.ConfigDef.Range;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.ConfigValue;
import org.apache.kafka.common.config.types.Password;

/** The sink's options. Without keys, credentials and region come from the AWS defaults (AWS_REGION, …). */
final class Settings extends AbstractConfig {
    static final String VERSION = "1";

    private static final String BUCKET = "s3.bucket";
    private static final String PREFIX = "s3.prefix";
    private static final String REGION = "s3.region";
    private static final String ENDPOINT = "s3.endpoint";
    private static final String KEY_ID = "s3.access.key.id";
    private static final String SECRET = "s3.secret.access.key";
    private static final String DATE_FIELD = "date.field";
    private static final String FLUSH_SIZE = "flush.size";
    private static final String FLUSH_BYTES = "flush.bytes";
    private static final String ROTATE = "rotate.interval.ms";
    private static final String BACKOFF = "retry.backoff.ms";
    private static final String LONGEST_BACKOFF = "retry.backoff.max.ms";

    static final ConfigDef DEFINITION = new ConfigDef()
        .define(BUCKET, Type.STRING, NO_DEFAULT_VALUE, new NonEmptyString(), HIGH, "The bucket. It must exist.")
        .define(PREFIX, Type.STRING, "topics", new NonEmptyString(), MEDIUM,
            "What keys begin with: PREFIX/TOPIC/year=YYYY/month=MM/TOPIC+PARTITION+FIRST_OFFSET.json")
        .define(REGION, Type.STRING, "", MEDIUM, "The bucket's region; empty: AWS_REGION, or the profile's.")
        .define(ENDPOINT, Type.STRING, "", MEDIUM,
            "Another store than Amazon's, as http(s)://host:port; empty: AWS_ENDPOINT_URL, or Amazon's.")
        .define(KEY_ID, Type.STRING, "", MEDIUM,
            "Access key; empty: AWS_ACCESS_KEY_ID, a profile or a role, as the AWS tools find them.")
        .define(SECRET, Type.PASSWORD, "", MEDIUM, "The secret of " + KEY_ID + ".")
        .define(DATE_FIELD, Type.STRING, "", HIGH,
            "Field with the date (text that begins YYYY-MM-DD) that selects the month's folder. If the field is missing or"
                + " this option is empty, the record's timestamp (UTC) is used.")
        .define(FLUSH_SIZE, Type.INT, 100_000, Range.atLeast(1), MEDIUM,
            "Lines of one topic partition at which they are written.")
        .define(FLUSH_BYTES, Type.LONG, 64L << 20, Range.atLeast(1L << 10), MEDIUM,
            "Bytes of all lines that a task holds at which those of the largest partition are written. A task takes up to"
                + " twice as much of the heap, and a batch of the consumer.")
        .define(ROTATE, Type.LONG, 60_000L, Range.atLeast(100), MEDIUM,
            "Age of the oldest line of one topic partition at which they are written: the longest that a record waits.")
        .define(BACKOFF, Type.LONG, 500L, Range.atLeast(1), LOW,
            "First pause after the store failed; each further one is twice as long, with jitter.")
        .define(LONGEST_BACKOFF, Type.LONG, 30_000L, Range.atLeast(1), LOW,
            "Longest pause. It is tried again for as long as it takes: records wait in Kafka.");

    private static final String BYTES = "org.apache.kafka.connect.converters.ByteArrayConverter";

    Settings(Map<String, String> given) {
        super(DEFINITION, given, false);
    }

    /** Adds what only shows in several settings together. */
    static Config checked(Config config, Map<String, String> given) {
        List<ConfigValue> values = new ArrayList<>(config.configValues());
        for (String converter : List.of("key.converter", "value.converter")) {
            if (!given.getOrDefault(converter, "").matches("(org\\.apache\\.kafka\\.connect\\.converters\\.)?ByteArrayConverter")) {
                ConfigValue value = new ConfigValue(converter);
                value.addErrorMessage(converter + " has to be " + BYTES + ": lines are records as they were produced");
                values.add(value);
            }
        }
        if (given.getOrDefault(KEY_ID, "").isEmpty() != given.getOrDefault(SECRET, "").isEmpty()) {
            values.stream().filter(value -> value.name().equals(SECRET)).forEach(
                value -> value.addErrorMessage(KEY_ID + " and " + SECRET + " must both be set, or neither"));
        }
        return new Config(values);
    }

    String bucket() {
        return getString(BUCKET);
    }

    String prefix() {
        return getString(PREFIX);
    }

    String region() {
        return getString(REGION);
    }

    String endpoint() {
        return getString(ENDPOINT);
    }

    String keyId() {
        return getString(KEY_ID);
    }

    Password secret() {
        return getPassword(SECRET);
    }

    String dateField() {
        return getString(DATE_FIELD);
    }

    int flushSize() {
        return getInt(FLUSH_SIZE);
    }

    long flushBytes() {
        return getLong(FLUSH_BYTES);
    }

    long rotateMillis() {
        return getLong(ROTATE);
    }

    long backoffMillis() {
        return getLong(BACKOFF);
    }

    long longestBackoffMillis() {
        return getLong(LONGEST_BACKOFF);
    }
}
