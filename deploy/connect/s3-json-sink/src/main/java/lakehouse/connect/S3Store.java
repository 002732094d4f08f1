package lakehouse.connect;

import java.net.URI;
import java.time.Duration;
import java.util.Set;
import org.apache.kafka.connect.errors.ConnectException;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentialsProvider;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.checksums.RequestChecksumCalculation;
import software.amazon.awssdk.core.checksums.ResponseChecksumValidation;
import software.amazon.awssdk.core.exception.SdkClientException;
import software.amazon.awssdk.core.exception.SdkException;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3ClientBuilder;
import software.amazon.awssdk.services.s3.model.S3Exception;

/** A bucket on S3, or on a store with the same API. */
final class S3Store implements Store {
    private static final String JSON_LINES = "application/x-ndjson";
    private static final Duration ATTEMPT = Duration.ofSeconds(60);
    private static final Duration ALL_ATTEMPTS = Duration.ofSeconds(120);
    // Of answers that say it is the request's fault, those that another attempt may get over.
    private static final Set<String> PASSING = Set.of("RequestTimeout", "OperationAborted");

    private final S3Client client;
    private final String bucket;

    /**
     * @throws ConnectException there are no credentials, or no region
     */
    S3Store(Settings settings) {
        bucket = settings.bucket();
        try {
            AwsCredentialsProvider credentials = credentials(settings);
            credentials.resolveCredentials(); // now, and not at the first object, minutes later
            client = addressed(S3Client.builder(), settings)
                .credentialsProvider(credentials)
                .httpClientBuilder(UrlConnectionHttpClient.builder())
                .overrideConfiguration(more -> more.apiCallAttemptTimeout(ATTEMPT).apiCallTimeout(ALL_ATTEMPTS))
                .build();
        } catch (SdkClientException | IllegalArgumentException error) {
            throw new ConnectException("S3 cannot be used: " + error.getMessage()
                + "; expected s3.region, s3.access.key.id and s3.secret.access.key, or what the AWS tools take:"
                + " AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role", error);
        }
    }

    private static AwsCredentialsProvider credentials(Settings settings) {
        if (settings.keyId().isEmpty()) {
            return DefaultCredentialsProvider.builder().build();
        }
        return StaticCredentialsProvider.create(AwsBasicCredentials.create(settings.keyId(), settings.secret().value()));
    }

    /** Stores other than Amazon's seldom have a host for each bucket, and not always the newer checksums and encodings. */
    private static S3ClientBuilder addressed(S3ClientBuilder builder, Settings settings) {
        if (!settings.region().isEmpty()) {
            builder.region(Region.of(settings.region()));
        }
        if (!settings.endpoint().isEmpty()) {
            builder.endpointOverride(URI.create(settings.endpoint()));
        }
        if (!settings.endpoint().isEmpty() || System.getenv("AWS_ENDPOINT_URL") != null || System.getenv("AWS_ENDPOINT_URL_S3") != null) {
            builder.forcePathStyle(true)
                .serviceConfiguration(s3 -> s3.chunkedEncodingEnabled(false))
                .requestChecksumCalculation(RequestChecksumCalculation.WHEN_REQUIRED)
                .responseChecksumValidation(ResponseChecksumValidation.WHEN_REQUIRED);
        }
        return builder;
    }

    @Override
    public void put(String key, Page page) {
        try {
            client.putObject(request -> request.bucket(bucket).key(key),
                RequestBody.fromContentProvider(page::content, page.size(), JSON_LINES));
        } catch (S3Exception error) {
            String message = "s3:PutObject of " + bucket + "/" + key + " failed with status " + error.statusCode()
                + ": " + error.getMessage();
            if (passing(error)) {
                throw new Unavailable(message, error);
            }
            throw new ConnectException(message, error);
        } catch (SdkException error) {
            throw new Unavailable("s3:PutObject of " + bucket + "/" + key + " failed: " + error.getMessage(), error);
        }
    }

    private static boolean passing(S3Exception error) {
        int status = error.statusCode();
        String code = error.awsErrorDetails() == null ? "" : error.awsErrorDetails().errorCode();
        return status >= 500 || status == 408 || status == 409 || status == 429 || error.isThrottlingException()
            || PASSING.contains(code);
    }

    @Override
    public void close() {
        client.close();
    }
}
