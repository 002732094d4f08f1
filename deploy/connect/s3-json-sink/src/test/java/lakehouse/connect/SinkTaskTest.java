package lakehouse.connect;

import static lakehouse.connect.LineTest.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.metrics.PluginMetrics;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.sink.ErrantRecordReporter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTaskContext;
import org.junit.jupiter.api.Test;

class SinkTaskTest {
    private static final TopicPartition T0 = new TopicPartition("t", 0);
    private static final String JANUARY = "topics/t/year=2024/month=01/t+0+%020d.json";
    private static final String FEBRUARY = "topics/t/year=2024/month=02/t+0+%020d.json";

    /** A bucket in memory; `failing` is thrown instead of a write, so many times. */
    private static final class Bucket implements Store {
        final Map<String, String> objects = new TreeMap<>();
        final List<RuntimeException> failing = new ArrayList<>();
        int puts;
        Runnable atPut = () -> {};

        @Override
        public void put(String key, Page page) {
            atPut.run();
            if (!failing.isEmpty()) {
                throw failing.remove(0);
            }
            puts++;
            try {
                objects.put(key, new String(page.content().readAllBytes(), StandardCharsets.UTF_8));
            } catch (java.io.IOException error) {
                throw new AssertionError(error);
            }
        }

        long lines() {
            return objects.values().stream().flatMap(String::lines).distinct().count();
        }
    }

    private static final class Context implements SinkTaskContext {
        long timeout = -1;
        int commits;
        ErrantRecordReporter reporter;

        @Override
        public Map<String, String> configs() {
            return Map.of();
        }

        @Override
        public void offset(Map<TopicPartition, Long> offsets) {}

        @Override
        public void offset(TopicPartition partition, long offset) {}

        @Override
        public void timeout(long millis) {
            timeout = millis;
        }

        @Override
        public Set<TopicPartition> assignment() {
            return Set.of();
        }

        @Override
        public void pause(TopicPartition... partitions) {}

        @Override
        public void resume(TopicPartition... partitions) {}

        @Override
        public void requestCommit() {
            commits++;
        }

        @Override
        public ErrantRecordReporter errantRecordReporter() {
            return reporter;
        }

        @Override
        public PluginMetrics pluginMetrics() {
            return null;
        }
    }

    private final Bucket bucket = new Bucket();
    private final Context context = new Context();
    private long now = 1_000_000;

    private S3JsonSinkTask task(String... settings) {
        S3JsonSinkTask task = new S3JsonSinkTask(given -> bucket, () -> now);
        Map<String, String> all = new HashMap<>(Map.of("s3.bucket", "b", "date.field", "d"));
        for (int at = 0; at < settings.length; at += 2) {
            all.put(settings[at], settings[at + 1]);
        }
        task.initialize(context);
        task.start(all);
        return task;
    }

    private static SinkRecord row(String topic, int partition, long offset, String date) {
        return new SinkRecord(topic, partition, null, null, null, bytes("{\"d\":\"" + date + "\"}"), offset);
    }

    private static SinkRecord row(long offset, String date) {
        return row("t", 0, offset, date);
    }

    private static OffsetAndMetadata committable(S3JsonSinkTask task) {
        return task.preCommit(Map.of(T0, new OffsetAndMetadata(999))).get(T0);
    }

    /** As Connect does: call at the time that was asked for, with nothing. */
    private void wait(S3JsonSinkTask task) {
        while (context.timeout > 0) {
            now += context.timeout;
            context.timeout = -1;
            task.put(List.of());
        }
    }

    @Test
    void oldLinesAreWrittenAnObjectAMonthAndOnlyThenCommitted() {
        S3JsonSinkTask task = task("rotate.interval.ms", "1000");
        task.put(List.of(row(3, "2024-01-31"), row(4, "2024-02-01"), row(7, "2024-01-01")));
        assertEquals(1000, context.timeout);
        assertEquals(null, committable(task));
        now += 999;
        task.put(List.of());
        assertEquals(Map.of(), bucket.objects);

        wait(task);
        assertEquals(Map.of(
            JANUARY.formatted(3), "{\"d\":\"2024-01-31\",\"__offset\":3}\n{\"d\":\"2024-01-01\",\"__offset\":7}\n",
            FEBRUARY.formatted(4), "{\"d\":\"2024-02-01\",\"__offset\":4}\n"), bucket.objects);
        assertEquals(new OffsetAndMetadata(8), committable(task));
        assertEquals(1, context.commits);
    }

    @Test
    void manyLinesAreWrittenAtOnceAndTheNextBeginAnew() {
        S3JsonSinkTask task = task("flush.size", "2");
        task.put(List.of(row(0, "2024-01-01"), row(1, "2024-01-02")));
        assertEquals(1, context.timeout);
        task.put(List.of(row(2, "2024-01-03")));
        assertEquals(Set.of(JANUARY.formatted(0)), bucket.objects.keySet());
        assertEquals(new OffsetAndMetadata(2), committable(task));
        wait(task);
        assertEquals(Set.of(JANUARY.formatted(0), JANUARY.formatted(2)), bucket.objects.keySet());
    }

    @Test
    void memoryIsBoundedOverAllPartitionsByWritingTheLargest() {
        S3JsonSinkTask task = task("flush.bytes", "1024");
        for (int at = 0; at < 200; at++) {
            task.put(List.of(row("t", 0, at, "2024-01-01"), row("t", 0, 1000 + at, "2024-01-01"), row("t", 1, at, "2024-01-01")));
        }
        assertTrue(bucket.objects.size() > 10, () -> bucket.objects.keySet().toString());
        int largest = bucket.objects.values().stream().mapToInt(String::length).max().orElseThrow();
        assertTrue(largest <= 1024 + 3 * 40, "" + largest);
        assertTrue(bucket.objects.keySet().stream().anyMatch(key -> key.contains("t+1+")));
    }

    @Test
    void aFailingStoreStopsTheTakingAndLosesAndDoublesNothing() {
        S3JsonSinkTask task = task("rotate.interval.ms", "1000", "retry.backoff.ms", "100", "retry.backoff.max.ms", "400");
        task.put(List.of(row(0, "2024-01-01"), row(1, "2024-02-01")));
        now += 1000;
        task.put(List.of(row(2, "2024-02-02")));
        List<SinkRecord> batch = List.of(row(3, "2024-01-02"));
        List<Long> pauses = new ArrayList<>();
        for (int failure = 0; failure < 6; failure++) {
            bucket.failing.add(new Store.Unavailable("down", null));
        }
        for (int failure = 0; failure < 6; failure++) {
            assertThrows(RetriableException.class, () -> task.put(batch));
            assertEquals(null, committable(task));
            pauses.add(context.timeout);
        }
        for (int at = 0; at < pauses.size(); at++) {
            long most = Math.min(400, 100L << at);
            assertTrue(pauses.get(at) > most / 2 && pauses.get(at) <= most, pauses::toString);
        }

        task.put(batch);
        assertEquals(new OffsetAndMetadata(3), committable(task));
        wait(task);
        assertEquals(new OffsetAndMetadata(4), committable(task));
        assertEquals(4, bucket.lines());
        assertEquals(3, bucket.objects.size());
        assertEquals(4, bucket.objects.values().stream().flatMap(String::lines).count());
    }

    @Test
    void whatWasWrittenBeforeAFailureIsNotWrittenAgain() {
        S3JsonSinkTask task = task("flush.size", "2");
        task.put(List.of(row(0, "2024-01-01"), row(1, "2024-02-01")));
        bucket.atPut = () -> {
            if (bucket.puts == 1 && bucket.failing.isEmpty()) {
                bucket.failing.add(new Store.Unavailable("down", null));
                bucket.atPut = () -> {};
            }
        };
        assertThrows(RetriableException.class, () -> task.put(List.of()));
        assertEquals(null, committable(task));
        task.put(List.of());
        assertEquals(2, bucket.puts);
        assertEquals(new OffsetAndMetadata(2), committable(task));
    }

    @Test
    void aSlowStoreLetsTheConsumerPollInTheMiddle() {
        S3JsonSinkTask task = task("flush.size", "12");
        for (int month = 1; month <= 12; month++) {
            task.put(List.of(row(month, "2024-%02d-01".formatted(month))));
        }
        bucket.atPut = () -> now += 25_000;
        int calls = 1;
        while (true) {
            long began = now;
            try {
                task.put(List.of());
                break;
            } catch (RetriableException again) {
                calls++;
            } finally {
                assertTrue(now - began < 150_000);
            }
        }
        assertEquals(12, bucket.puts);
        assertTrue(calls > 3 && calls < 12, "" + calls);
    }

    @Test
    void whatAPersonHasToMendEndsTheTask() {
        S3JsonSinkTask task = task("flush.size", "1");
        task.put(List.of(row(0, "2024-01-01")));
        bucket.failing.add(new ConnectException("403"));
        ConnectException error = assertThrows(ConnectException.class, () -> task.put(List.of()));
        assertFalse(error instanceof RetriableException);
    }

    @Test
    void whoeverBeginsAgainAfterACrashWritesOverWhatWasWritten() {
        List<SinkRecord> rows = List.of(row(5, "2024-01-01"), row(6, "2024-02-01"), row(7, "2024-01-02"));
        for (int attempt = 0; attempt < 2; attempt++) { // the first one ends before its offsets are committed
            S3JsonSinkTask task = task("flush.size", "3");
            task.put(rows);
            task.put(List.of());
        }
        assertEquals(4, bucket.puts);
        assertEquals(2, bucket.objects.size());
        assertEquals(3, bucket.objects.values().stream().flatMap(String::lines).count());
    }

    @Test
    void aPartitionThatIsTakenAwayTakesWhatWasGatheredOfItAlong() {
        S3JsonSinkTask task = task("rotate.interval.ms", "1000");
        task.put(List.of(row(0, "2024-01-01"), row("t", 1, 0, "2024-01-01")));
        task.close(List.of(T0));
        wait(task);
        assertEquals(Set.of("topics/t/year=2024/month=01/t+1+%020d.json".formatted(0)), bucket.objects.keySet());
        assertEquals(null, committable(task));
    }

    @Test
    void aRecordThatIsNoLineEndsTheTaskUnlessItIsReported() {
        SinkRecord bad = new SinkRecord("t", 0, null, null, null, bytes("no json"), 1);
        S3JsonSinkTask task = task("flush.size", "2");
        assertThrows(DataException.class, () -> task.put(List.of(row(0, "2024-01-01"), bad)));

        List<SinkRecord> reported = new ArrayList<>();
        context.reporter = (record, error) -> {
            reported.add(record);
            return CompletableFuture.completedFuture(null);
        };
        S3JsonSinkTask tolerant = task("flush.size", "2");
        tolerant.put(List.of(row(0, "2024-01-01"), bad, row(2, "2024-01-02")));
        tolerant.put(List.of());
        assertEquals(List.of(bad), reported);
        assertEquals(new OffsetAndMetadata(3), committable(tolerant));
    }

    /** Two topics, each business day of twenty years, three types, in no order: what a first load is. */
    @Test
    void twentyYearsAreAnObjectAMonthAndTopic() {
        List<SinkRecord> records = new ArrayList<>();
        for (String topic : List.of("ipca", "pre")) {
            List<LocalDate> days = new ArrayList<>(LocalDate.of(2005, 1, 1).datesUntil(LocalDate.of(2025, 1, 1))
                .filter(day -> day.getDayOfWeek().getValue() < 6).flatMap(day -> Collections.nCopies(3, day).stream()).toList());
            Collections.shuffle(days, new Random(1));
            for (LocalDate day : days) {
                records.add(row(topic, 0, records.size(), day.toString()));
            }
        }
        S3JsonSinkTask task = task();
        for (int at = 0; at < records.size(); at += 500) {
            now += 50;
            task.put(records.subList(at, Math.min(records.size(), at + 500)));
        }
        wait(task);
        assertEquals(2 * 240, bucket.objects.size());
        assertEquals(2 * 5_217 * 3, bucket.lines());
    }
}
