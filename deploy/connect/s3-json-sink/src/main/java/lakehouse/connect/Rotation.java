package lakehouse.connect;

import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.TopicPartition;

/** What one topic partition has waiting to be written together: a page for each folder. */
final class Rotation {
    private final TopicPartition partition;
    private final String prefix;
    private final Map<String, Page> pages = new TreeMap<>();
    private final long since;
    private long next;
    private int lines;
    private long bytes;
    private boolean due;

    /**
     * @param since when its first line came
     */
    Rotation(TopicPartition partition, String prefix, long since) {
        this.partition = partition;
        this.prefix = prefix;
        this.since = since;
    }

    void add(Line line, long offset) {
        String folder = String.format("year=%04d/month=%02d", line.day().getYear(), line.day().getMonthValue());
        pages.computeIfAbsent(folder, none -> new Page(offset)).writeBytes(line.text());
        next = offset + 1;
        lines++;
        bytes += line.text().length;
    }

    /**
     * Writes the pages that are left. One that is written is gone, so that this can be called again after it failed.
     *
     * <p>An object's name depends only on its records: after a crash, the same records replace the same object.
     *
     * @throws Store.Unavailable not all could be written
     */
    void write(Store store) {
        for (var page = pages.entrySet().iterator(); page.hasNext(); page.remove()) {
            var found = page.next();
            store.put(String.format("%s/%s/%s/%s+%d+%020d.json", prefix, partition.topic(), found.getKey(), partition.topic(),
                partition.partition(), found.getValue().firstOffset), found.getValue());
        }
    }

    TopicPartition partition() {
        return partition;
    }

    /** The first offset that is not in it. */
    long next() {
        return next;
    }

    int lines() {
        return lines;
    }

    long bytes() {
        return bytes;
    }

    long since() {
        return since;
    }

    /** It is to be written, and takes no further line. */
    boolean due() {
        return due;
    }

    void close() {
        due = true;
    }
}
