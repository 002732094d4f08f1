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
 * <p>Connect calls {@link #put} again and again, with what came or with nothing. Each time, in order: rotations that are
 * due are written; only then are records taken; those that have thereby become due are written by the next call, at
 * once. So a failing store stops the taking, memory stays bounded, and a batch that is handed over again after a failure
 * was not taken in part. Only offsets of which all lines are on S3 are committed.
 */
public final class S3JsonSinkTask extends SinkTask {
    private static final Logger LOG = LoggerFactory.getLogger(S3JsonSinkTask.class);
    // A consumer that does not poll for five minutes loses its partitions, and all that was gathered.
    private static final long LONGEST_CALL_MILLIS = 60_000;

    private final Function<Settings, Store> opened;
    private final LongSupplier clock;
    private final Map<TopicPartition, Rotation> rotations = new HashMap<>();
    private final Map<TopicPartition, OffsetAndMetadata> written = new HashMap<>();
    private Settings settings;
    private Store store;
    private int failures;

    /** As Connect makes it. */
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
     * @throws RetriableException the store failed: nothing of `records` was taken
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
                        throw new Store.Unavailable("the store is slow: the rest goes on after a poll", null);
                    }
                    store.put(key, page);
                    failures = 0; // it gets on: no reason to wait longer and longer
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

    // --- taking ------------------------------------------------------------------------------------------------------

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

    /** Milliseconds after which to be called again, come records or not; -1: no matter when. */
    private long untilNextDue() {
        long now = clock.getAsLong();
        return rotations.values().stream()
            .mapToLong(r -> r.due() ? 1 : Math.max(1, r.since() + settings.rotateMillis() - now))
            .min().orElse(-1);
    }

    // --- what Connect asks -------------------------------------------------------------------------------------------

    @Override
    public Map<TopicPartition, OffsetAndMetadata> preCommit(Map<TopicPartition, OffsetAndMetadata> taken) {
        return new HashMap<>(written);
    }

    /** What is gathered of these goes: whoever gets them begins after what was committed, which is what was written. */
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
