import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import software.amazon.awssdk.awscore.client.builder.AwsClientBuilder;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.regions.internal.util.EC2MetadataUtils;
import software.amazon.awssdk.retries.DefaultRetryStrategy;
import software.amazon.awssdk.services.iam.IamClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.sqs.SqsClient;
import software.amazon.awssdk.services.sts.StsClient;

/** The AWS SDK for Java v2, as a user has it: {@code Client MODE…} prints one line of JSON, keyed by mode. */
public final class Client {
    public static void main(String[] modes) {
        Map<String, Object> results = new LinkedHashMap<>();
        for (String mode : modes) {
            results.put(mode, switch (mode) {
                case "whoami" -> whoami();
                case "refusals" -> refusals();
                case "metadata" -> metadata();
                default -> throw new IllegalArgumentException("no mode " + mode);
            });
        }
        System.out.println(json(results));
    }

    private static Map<String, Object> whoami() {
        try (StsClient sts = StsClient.create()) {
            var answer = sts.getCallerIdentity();
            return map("Arn", answer.arn(), "UserId", answer.userId(), "Account", answer.account());
        }
    }

    private static Map<String, Object> refusals() {
        return map(
            "sts GetSessionToken", told(() -> once(StsClient.builder()).getSessionToken()),
            "sqs ListQueues", told(() -> once(SqsClient.builder()).listQueues()),
            "iam ListUsers", told(() -> once(IamClient.builder()).listUsers()),
            "s3 ListBuckets", told(() -> once(S3Client.builder()).listBuckets()));
    }

    private static <B extends AwsClientBuilder<B, C>, C> C once(B builder) {
        return builder
            .overrideConfiguration(all -> all.retryStrategy(DefaultRetryStrategy.doNotRetry()))
            .build();
    }

    private static Map<String, Object> told(Runnable call) {
        try {
            call.run();
            return map("status", 200, "code", "", "message", "");
        } catch (AwsServiceException error) {
            var details = error.awsErrorDetails();
            return map("status", error.statusCode(), "code", details.errorCode(), "message", details.errorMessage());
        } catch (RuntimeException error) {
            return map("status", 0, "code", error.getClass().getSimpleName(), "message", error.getMessage());
        }
    }

    private static Map<String, Object> metadata() {
        String role = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
        String document = EC2MetadataUtils.getData(role);
        Matcher key = Pattern.compile("\"AccessKeyId\" : \"(\\w+)\"").matcher(document);
        if (!key.find()) {
            throw new IllegalStateException("no key in the credential document");
        }
        return map(
            "instance", EC2MetadataUtils.getInstanceId(),
            "region", EC2MetadataUtils.getEC2InstanceRegion(),
            "key", key.group(1));
    }

    private static Map<String, Object> map(Object... pairs) {
        Map<String, Object> made = new LinkedHashMap<>();
        for (int at = 0; at < pairs.length; at += 2) {
            made.put((String) pairs[at], pairs[at + 1]);
        }
        return made;
    }

    private static String json(Object value) {
        if (value instanceof Map<?, ?> map) {
            List<String> fields = new ArrayList<>();
            map.forEach((name, field) -> fields.add(json(name) + ": " + json(field)));
            return "{" + String.join(", ", fields) + "}";
        }
        if (value instanceof Number) {
            return value.toString();
        }
        String text = String.valueOf(value).replace("\\", "\\\\").replace("\"", "\\\"");
        return "\"" + text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + "\"";
    }

    private Client() {}
}
