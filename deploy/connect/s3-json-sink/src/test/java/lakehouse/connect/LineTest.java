package lakehouse.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDate;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.sink.SinkRecord;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class LineTest {
    private static final LocalDate OWN_TIME = LocalDate.of(2026, 2, 28);

    static SinkRecord record(Object key, Object value, long offset) {
        long time = Instant.parse("2026-02-28T23:59:59.999Z").toEpochMilli();
        return new SinkRecord("t", 0, null, key, null, value, offset, time, TimestampType.CREATE_TIME);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static Line line(String value) {
        return Line.of(record(null, bytes(value), 7), "day");
    }

    private static String text(String value) {
        return new String(line(value).text(), StandardCharsets.UTF_8);
    }

    @Test
    void aLineIsTheValueAsItWasProducedAndItsOffset() {
        assertEquals("{\"b\":1.10,\"a\":\"é😀\\n\", \"n\":null,\"__offset\":7}\n", text("{\"b\":1.10,\"a\":\"é😀\\n\", \"n\":null}"));
    }

    @Test
    void lineEndsBetweenTokensDoNotEndTheLine() {
        assertEquals("{ \"a\": [  1],  \"b\":{} ,\"__offset\":7}\n", text("{\n\"a\": [\r\n1],\r\n\"b\":{}\n}"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"2024-02-29", "2024-02-29T23:59:59-03:00", "2024-02-29 00:00", "2024-02-29Z"})
    void theDayIsWhatTheFieldBeginsWith(String date) {
        assertEquals(LocalDate.of(2024, 2, 29), line("{\"x\":{\"day\":\"1999-01-01\"},\"day\":\"" + date + "\"}").day());
    }

    @ParameterizedTest
    @ValueSource(strings = {"{\"a\":1}", "{\"day\":null}", "{\"day\":\"2024-02-30\"}", "{\"day\":\"\"}", "{\"day\":19782}", "{\"day\":[\"2024-01-01\"]}"})
    void withoutADateInTheFieldItGoesByTheRecordsOwnTime(String value) {
        assertEquals(OWN_TIME, line(value).day());
    }

    @Test
    void aRecordWithoutATimeEitherHasADayStill() {
        SinkRecord bare = new SinkRecord("t", 0, null, null, null, bytes("{\"a\":1}"), 7);
        assertEquals(LocalDate.EPOCH, Line.of(bare, "day").day());
    }

    @Test
    void aTombstoneIsItsKeyMarkedAsDeleted() {
        Line line = Line.of(record(bytes("{\"day\":\"2024-01-02\",\"k\":1}"), null, 9), "day");
        assertEquals("{\"day\":\"2024-01-02\",\"k\":1,\"__deleted\":\"true\",\"__offset\":9}\n", new String(line.text(), StandardCharsets.UTF_8));
        assertEquals(LocalDate.of(2024, 1, 2), line.day());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "{}", "1", "[1]", "{\"a\":1}{\"a\":2}", "{\"a\":1} ", "{\"a\":secret}", "\ufeff{\"a\":1}", "{\"__offset\":1}"})
    void whatIsNoObjectIsRefusedWithItsPlaceAndNotItsContent(String value) {
        String message = assertThrows(DataException.class, () -> line(value)).getMessage();
        assertTrue(message.startsWith("t, partition 0, offset 7: "), message);
        assertFalse(message.contains("secret"), message);
    }

    @Test
    void anotherCharacterSetIsRefused() {
        for (var set : new java.nio.charset.Charset[] {StandardCharsets.UTF_16LE, StandardCharsets.UTF_16BE, StandardCharsets.UTF_16}) {
            assertThrows(DataException.class, () -> Line.of(record(null, "{\"a\":1}".getBytes(set), 7), ""));
        }
    }

    @Test
    void anotherConverterIsReportedByName() {
        String message = assertThrows(DataException.class, () -> Line.of(record(null, "{\"a\":1}", 7), "")).getMessage();
        assertTrue(message.contains("ByteArrayConverter") && message.contains("java.lang.String"), message);
        assertThrows(DataException.class, () -> Line.of(record(null, null, 7), ""));
    }
}
