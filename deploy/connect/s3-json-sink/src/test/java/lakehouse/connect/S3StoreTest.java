package lakehouse.connect;

import static lakehouse.connect.LineTest.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import org.apache.kafka.connect.errors.ConnectException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Amazon's own client against a server that answers with the statuses in `answers`. */
class S3StoreTest {
    private static final String SECRET = "canary-of-the-bucket";

    private record Request(String method, String path, String type, String body) {}

    private final List<Request> requests = new ArrayList<>();
    private final Queue<Integer> answers = new ArrayDeque<>();
    private String code = "InternalError";
    private HttpServer server;

    @BeforeEach
    void start() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", exchange -> {
            requests.add(new Request(exchange.getRequestMethod(), exchange.getRequestURI().getRawPath(),
                exchange.getRequestHeaders().getFirst("Content-Type"), new String(exchange.getRequestBody().readAllBytes())));
            int status = answers.isEmpty() ? 200 : answers.remove();
            byte[] body = status == 200 ? new byte[0] : bytes("<Error><Code>" + code + "</Code><Message>test message</Message></Error>");
            exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }

    @AfterEach
    void stop() {
        server.stop(0);
    }

    private S3Store store() {
        return new S3Store(new Settings(Map.of("s3.bucket", "lake", "s3.region", "us-east-1",
            "s3.endpoint", "http://127.0.0.1:" + server.getAddress().getPort(),
            "s3.access.key.id", "test", "s3.secret.access.key", SECRET)));
    }

    private static Page page(String text) {
        Page page = new Page(0);
        page.writeBytes(bytes(text));
        return page;
    }

    @Test
    void anObjectIsPutByItsKeyAsJsonLines() {
        store().put("topics/t/year=2024/month=01/t+0+1.json", page("{\"a\":1}\n"));
        assertEquals(List.of(new Request("PUT", "/lake/topics/t/year%3D2024/month%3D01/t%2B0%2B1.json", "application/x-ndjson", "{\"a\":1}\n")), requests);
    }

    @Test
    void aPassingFailureIsGotOverWithTheWholeBody() {
        answers.addAll(List.of(503, 500));
        store().put("k", page("whole"));
        assertEquals(List.of("whole", "whole", "whole"), requests.stream().map(Request::body).toList());
    }

    @ParameterizedTest
    @CsvSource({"503,SlowDown", "500,InternalError", "429,TooManyRequests", "400,RequestTimeout", "409,OperationAborted"})
    void transientErrorIsUnavailable(int status, String code) {
        this.code = code;
        for (int attempt = 0; attempt < 9; attempt++) {
            answers.add(status);
        }
        String message = assertThrows(Store.Unavailable.class, () -> store().put("k", page("x"))).getMessage();
        assertTrue(message.contains("lake/k failed with status " + status), message);
    }

    @Test
    void aServerThatIsNotThereIsUnavailable() {
        S3Store store = store();
        server.stop(0);
        assertThrows(Store.Unavailable.class, () -> store.put("k", page("x")));
    }

    @ParameterizedTest
    @CsvSource({"403,AccessDenied", "403,SignatureDoesNotMatch", "404,NoSuchBucket", "400,InvalidRequest"})
    void permanentErrorNamesTheRequest(int status, String code) {
        this.code = code;
        answers.add(status);
        ConnectException error = assertThrows(ConnectException.class, () -> store().put("k", page("x")));
        assertTrue(error.getMessage().startsWith("s3:PutObject of lake/k failed with status " + status + ": test message"), error.getMessage());
        assertFalse(error.getMessage().contains(SECRET));
        assertEquals(1, requests.size());
    }

    @Test
    void withoutARegionItSaysWhatIsMissingAtTheStart() {
        String before = System.setProperty("aws.configFile", "/nowhere");
        try {
            Map<String, String> given = new HashMap<>(Map.of("s3.bucket", "b", "s3.access.key.id", "i", "s3.secret.access.key", SECRET));
            if (System.getenv("AWS_REGION") == null && System.getenv("AWS_DEFAULT_REGION") == null) {
                System.setProperty("aws.disableEc2Metadata", "true");
                String message = assertThrows(ConnectException.class, () -> new S3Store(new Settings(given))).getMessage();
                assertTrue(message.contains("AWS_REGION"), message);
            }
        } finally {
            System.clearProperty("aws.disableEc2Metadata");
            if (before == null) {
                System.clearProperty("aws.configFile");
            }
        }
    }
}
