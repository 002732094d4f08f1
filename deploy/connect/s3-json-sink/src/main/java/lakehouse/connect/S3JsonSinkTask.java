package lakehouse.connect;

import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Function;
import java.util.function.LongSupplier;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.sink.ErrantRecordReporter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTask;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Gathers lines by topic partition and month, and writes each partition's together, when they are many, large or old.
 *
 * <p>Connect calls {@link #put} repeatedly, with the records received since the last call, or with none. Each call first
 * writes the rotations that are due and then accepts the records. Rotations that become due in a call are written by the
 * next one, which follows at once. So while the store fails, no records are accepted and memory stays bounded, and a
 * batch that Connect delivers again after a failure was not accepted in part. An offset is committed only when all lines
 * before it are on S3.
 */
public final class S3JsonSinkTask extends SinkTask {
    private static final Logger LOG = LoggerFactory.getLogger(S3JsonSinkTask.class);
    // A consumer that does not poll for five minutes loses its partitions and its pending lines.
    private static final long LONGEST_CALL_MILLIS = 60_000;

    private final Function<Settings, Store> opened;
    private final LongSupplier clock;
    private final Map<TopicPartition, Rotation> rotations = new HashMap<>();
    private final Map<TopicPartition, OffsetAndMetadata> written = new HashMap<>();
    private Settings settings;
    private Store store;
    private int failures;

    /** Creates the task for Connect, with S3 and the system's clock. */
    public S3JsonSinkTask() {
        this(S3Store::new, () -> System.nanoTime() / 1_000_000);
    }

    /**
     * @param clock milliseconds, of any origin
     */
    S3JsonSinkTask(Function<Settings, Store> opened, LongSupplier clock) {
        this.opened = opened;
        this.clock = clock;
    }

    @Override
    public void start(Map<String, String> properties) {
        settings = new Settings(properties);
        store = opened.apply(settings);
    }

    /**
     * @throws RetriableException the store failed: none of `records` was accepted
     */
    @Override
    public void put(Collection<SinkRecord> records) {
        writeDue();
        records.forEach(this::take);
        closeDue();
        context.timeout(untilNextDue());
    }

    // --- writing -----------------------------------------------------------------------------------------------------

    private void writeDue() {
        List<Rotation> due = rotations.values().stream().filter(Rotation::due).toList();
        long end = clock.getAsLong() + LONGEST_CALL_MILLIS;
        for (Rotation rotation : due) {
            try {
                rotation.write((key, page) -> {
                    if (clock.getAsLong() > end) {
                        throw new Store.Unavailable("the store is slow: the remaining pages are written after the next poll", null);
                    }
                    store.put(key, page);
                    failures = 0; // a write succeeded: the next pause is the shortest again
                });
            } catch (Store.Unavailable error) {
                context.timeout(pause(failures++));
                throw new RetriableException(error.getMessage(), error);
            }
            rotations.remove(rotation.partition());
            written.put(rotation.partition(), new OffsetAndMetadata(rotation.next()));
            context.requestCommit();
            LOG.info("{}: {} lines written, up to offset {}", rotation.partition(), rotation.lines(), rotation.next());
        }
    }

    /** Twice as long each time, up to the longest, and between half and all of that: many tasks do not come back at once. */
    private long pause(int failed) {
        long most = Math.min(settings.longestBackoffMillis(), settings.backoffMillis() << Math.min(failed, 30));
        return ThreadLocalRandom.current().nextLong(most / 2, most) + 1;
    }

    // --- accepting ---------------------------------------------------------------------------------------------------

    private void take(SinkRecord record) {
        Line line;
        try {
            line = Line.of(record, settings.dateField());
        } catch (DataException error) {
            refuse(record, error);
            return;
        }
        TopicPartition partition = new TopicPartition(record.topic(), record.kafkaPartition());
        rotations.computeIfAbsent(partition, none -> new Rotation(partition, settings.prefix(), clock.getAsLong()))
            .add(line, record.kafkaOffset());
    }

    /** A record that is no line ends the task, unless `errors.tolerance` and a dead letter queue say otherwise. */
    private void refuse(SinkRecord record, DataException error) {
        ErrantRecordReporter reporter = context.errantRecordReporter();
        if (reporter == null) {
            throw error;
        }
        try {
            reporter.report(record, error).get();
        } catch (InterruptedException | ExecutionException failed) {
            throw new ConnectException("a record that is no line could not be reported", failed);
        }
    }

    private void closeDue() {
        long old = clock.getAsLong() - settings.rotateMillis();
        long held = rotations.values().stream().mapToLong(Rotation::bytes).sum();
        rotations.values().stream().filter(r -> r.lines() >= settings.flushSize() || r.since() <= old).forEach(Rotation::close);
        if (held >= settings.flushBytes()) {
            rotations.values().stream().max(Comparator.comparingLong(Rotation::bytes)).ifPresent(Rotation::close);
        }
    }

    /** Milliseconds after which Connect must call again, even without records; -1 if nothing is pending. */
    private long untilNextDue() {
        long now = clock.getAsLong();
        return rotations.values().stream()
            .mapToLong(r -> r.due() ? 1 : Math.max(1, r.since() + settings.rotateMillis() - now))
            .min().orElse(-1);
    }

    // --- Connect's callbacks -----------------------------------------------------------------------------------------

    @Override
    public Map<TopicPartition, OffsetAndMetadata> preCommit(Map<TopicPartition, OffsetAndMetadata> taken) {
        return new HashMap<>(written);
    }

    /** Discards the pending lines of these partitions; their next owner starts after the committed offsets. */
    @Override
    public void close(Collection<TopicPartition> partitions) {
        rotations.keySet().removeAll(partitions);
        written.keySet().removeAll(partitions);
    }

    @Override
    public void stop() {
        if (store != null) {
            store.close();
        }
    }

    @Override
    public String version() {
        return Settings.VERSION;
    }
}
