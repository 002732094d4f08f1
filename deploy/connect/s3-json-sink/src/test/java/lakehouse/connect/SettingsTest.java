package lakehouse.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.config.ConfigValue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SettingsTest {
    private static final String BYTES = "org.apache.kafka.connect.converters.ByteArrayConverter";
    private static final Map<String, String> RIGHT = Map.of("s3.bucket", "b", "key.converter", BYTES, "value.converter", BYTES);

    /** What Connect would say, by the name of the setting. */
    private static Map<String, List<String>> faults(String... changes) {
        Map<String, String> given = new HashMap<>(RIGHT);
        for (int at = 0; at < changes.length; at += 2) {
            given.put(changes[at], changes[at + 1]);
        }
        Map<String, List<String>> found = new TreeMap<>();
        for (ConfigValue value : new S3JsonSink().validate(given).configValues()) {
            if (!value.errorMessages().isEmpty()) {
                found.put(value.name(), value.errorMessages());
            }
        }
        return found;
    }

    @Test
    void theBucketAloneIsEnough() {
        assertEquals(Map.of(), faults());
    }

    @ParameterizedTest
    @CsvSource({"s3.bucket,''", "s3.prefix,''", "flush.size,0", "flush.size,many", "flush.bytes,1", "rotate.interval.ms,99",
        "retry.backoff.ms,0", "value.converter,org.apache.kafka.connect.json.JsonConverter", "key.converter,''"})
    void whatCannotBeIsRefusedByName(String name, String value) {
        assertEquals(List.of(name), List.copyOf(faults(name, value).keySet()));
    }

    @Test
    void aKeyWithoutItsSecretIsRefusedAndNoSecretIsSaid() {
        assertTrue(faults("s3.access.key.id", "i").containsKey("s3.secret.access.key"));
        Map<String, List<String>> found = faults("s3.secret.access.key", "canary");
        assertTrue(found.containsKey("s3.secret.access.key"));
        assertFalse(found.toString().contains("canary"));
        assertFalse(new Settings(Map.of("s3.bucket", "b", "s3.secret.access.key", "canary")).values().toString().contains("canary"));
        assertEquals(Map.of(), faults("s3.access.key.id", "i", "s3.secret.access.key", "canary"));
    }

    @Test
    void everySettingIsExplained() {
        assertTrue(Settings.DEFINITION.configKeys().values().stream().allMatch(key -> key.documentation.endsWith(".") || key.documentation.contains("PREFIX")));
    }

    @Test
    void connectFindsTheSinkAndEveryTaskGetsAllOfIt() {
        S3JsonSink sink = new S3JsonSink();
        sink.start(RIGHT);
        assertEquals(List.of(RIGHT, RIGHT), sink.taskConfigs(2));
        assertTrue(java.util.ServiceLoader.load(org.apache.kafka.connect.sink.SinkConnector.class).stream()
            .anyMatch(found -> found.type() == S3JsonSink.class));
    }
}
