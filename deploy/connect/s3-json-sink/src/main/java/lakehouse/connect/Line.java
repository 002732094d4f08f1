package lakehouse.connect;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneOffset;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.sink.SinkRecord;

/**
 * A record as a line: the JSON object of its value as it was produced, to the byte, with the record's offset as one more
 * member, by which the newest line of a key is found. A record without a value (a tombstone) becomes its key's object,
 * marked as deleted as Debezium marks it.
 *
 * @param text with the line end
 * @param day the date that selects the line's folder
 */
record Line(byte[] text, LocalDate day) {
    static final String OFFSET = "__offset";
    private static final String DELETED = ",\"__deleted\":\"true\"";
    private static final JsonFactory JSON = new JsonFactory();

    /**
     * @throws DataException the record is no JSON object
     */
    static Line of(SinkRecord record, String dateField) {
        boolean deleted = record.value() == null;
        Object given = deleted ? record.key() : record.value();
        if (!(given instanceof byte[] json)) {
            throw new DataException(where(record) + ": found " + (given == null ? "neither key nor value" : given.getClass().getName())
                + ", expected bytes of JSON; key.converter and value.converter have to be ByteArrayConverter");
        }
        String date;
        try {
            date = date(json, dateField);
        } catch (IOException | IllegalArgumentException error) {
            // Not the parser's own words: they quote the record.
            throw new DataException(where(record) + ": found " + json.length + " bytes, expected one JSON object"
                + " in UTF-8, with members of which none is called " + OFFSET);
        }
        return new Line(text(json, (deleted ? DELETED : "") + ",\"" + OFFSET + "\":" + record.kafkaOffset() + "}\n"), day(date, record));
    }

    /** The text of the member `dateField`, or null; the whole of `json` has to be one object. */
    private static String date(byte[] json, String dateField) throws IOException {
        String date = null;
        try (JsonParser parser = JSON.createParser(json)) {
            // The parser knows UTF-16 and byte order marks, too; the line takes bytes of UTF-8 as they are.
            if (parser.nextToken() != JsonToken.START_OBJECT || json[0] != '{' || json[json.length - 1] != '}') {
                throw new IllegalArgumentException();
            }
            boolean empty = true;
            for (; parser.nextToken() != JsonToken.END_OBJECT; empty = false) {
                String name = parser.currentName();
                JsonToken value = parser.nextToken();
                if (name.equals(OFFSET)) {
                    throw new IllegalArgumentException();
                }
                date = name.equals(dateField) && value == JsonToken.VALUE_STRING ? parser.getText() : date;
                parser.skipChildren();
            }
            if (empty || parser.nextToken() != null) {
                throw new IllegalArgumentException();
            }
        }
        return date;
    }

    /** The object on one line, its closing brace replaced: line ends between its tokens are blanks as well as any. */
    private static byte[] text(byte[] json, String end) {
        int brace = json.length - 1;
        ByteArrayOutputStream line = new ByteArrayOutputStream(brace + end.length());
        for (int at = 0; at < brace; at++) {
            line.write(json[at] == '\n' || json[at] == '\r' ? ' ' : json[at]);
        }
        line.writeBytes(end.getBytes(StandardCharsets.US_ASCII));
        return line.toByteArray();
    }

    private static LocalDate day(String date, SinkRecord record) {
        try {
            if (date != null && date.length() >= 10) {
                return LocalDate.parse(date.substring(0, 10));
            }
        } catch (DateTimeException none) {
            // Then it goes by the record's time, as where there is no text at all.
        }
        long time = record.timestamp() == null ? 0 : record.timestamp();
        return LocalDate.ofInstant(Instant.ofEpochMilli(time), ZoneOffset.UTC);
    }

    private static String where(SinkRecord record) {
        return record.topic() + ", partition " + record.kafkaPartition() + ", offset " + record.kafkaOffset();
    }
}
