package lakehouse.connect;

import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.sink.SinkConnector;

/**
 * Topics of JSON records as files of JSON lines on S3, in a folder for each month of a date that the records carry:
 *
 * <pre>topics/TOPIC/year=2026/month=01/TOPIC+PARTITION+FIRST_OFFSET.json</pre>
 *
 * <p>The options are in {@link Settings}; the work is done by {@link S3JsonSinkTask}.
 */
public final class S3JsonSink extends SinkConnector {
    private Map<String, String> given = Map.of();

    @Override
    public void start(Map<String, String> properties) {
        given = Map.copyOf(properties);
    }

    @Override
    public Class<? extends Task> taskClass() {
        return S3JsonSinkTask.class;
    }

    /** Every task gets all of the configuration; Connect gives each its share of the partitions. */
    @Override
    public List<Map<String, String>> taskConfigs(int most) {
        return Collections.nCopies(most, given);
    }

    @Override
    public void stop() {}

    @Override
    public ConfigDef config() {
        return Settings.DEFINITION;
    }

    @Override
    public Config validate(Map<String, String> properties) {
        return Settings.checked(super.validate(properties), properties);
    }

    @Override
    public String version() {
        return Settings.VERSION;
    }
}
