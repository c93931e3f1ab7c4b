// The AWS SDK for JavaScript v3, as a user has it: `node client.mjs MODE…` prints one line of JSON, keyed by mode.

import { IAMClient, ListUsersCommand } from "@aws-sdk/client-iam";
import { ListBucketsCommand, S3Client } from "@aws-sdk/client-s3";
import { ListQueuesCommand, SQSClient } from "@aws-sdk/client-sqs";
import { GetCallerIdentityCommand, GetSessionTokenCommand, STSClient } from "@aws-sdk/client-sts";
import { MetadataService } from "@aws-sdk/ec2-metadata-service";
import { Sha256 } from "@aws-crypto/sha256-js";
import { HttpRequest } from "@smithy/protocol-http";
import { SignatureV4 } from "@smithy/signature-v4";

const region = process.env.AWS_REGION;
const once = { maxAttempts: 1 };

async function whoami() {
  const answer = await new STSClient({}).send(new GetCallerIdentityCommand({}));
  return { Arn: answer.Arn, UserId: answer.UserId, Account: answer.Account, Attempts: answer.$metadata.attempts };
}

async function told(client, command) {
  try {
    await client.send(command);
    return { status: 200, code: "", message: "" };
  } catch (error) {
    return { status: error.$metadata?.httpStatusCode ?? 0, code: error.Code ?? error.name, message: error.message };
  }
}

async function refusals() {
  // Global services have one name each; in a pocket the region's own is the same machine.
  return {
    "sts GetSessionToken": await told(new STSClient(once), new GetSessionTokenCommand({})),
    "sqs ListQueues": await told(new SQSClient(once), new ListQueuesCommand({})),
    "iam ListUsers": await told(new IAMClient(once), new ListUsersCommand({})),
    "s3 ListBuckets": await told(new S3Client(once), new ListBucketsCommand({})),
  };
}

async function metadata() {
  const service = new MetadataService({});
  const role = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
  return {
    instance: await service.request("/latest/meta-data/instance-id", {}),
    region: await service.request("/latest/meta-data/placement/region", {}),
    key: JSON.parse(await service.request(role, {})).AccessKeyId,
  };
}

// The presigned form, for whoever is handed the URL.
async function presign() {
  const sts = new STSClient({});
  const endpoint = new URL(process.env.AWS_ENDPOINT_URL ?? `https://sts.${region}.amazonaws.com`);
  const signer = new SignatureV4({ credentials: sts.config.credentials, region, service: "sts", sha256: Sha256 });
  const request = new HttpRequest({
    method: "GET",
    protocol: endpoint.protocol,
    hostname: endpoint.hostname,
    port: endpoint.port ? Number(endpoint.port) : undefined,
    path: "/",
    query: { Action: "GetCallerIdentity", Version: "2011-06-15" },
    headers: { host: endpoint.host },
  });
  const signed = await signer.presign(request, { expiresIn: 60 });
  const query = Object.entries(signed.query).map((pair) => pair.map(encodeURIComponent).join("="));
  return { url: `${endpoint.origin}/?${query.join("&")}` };
}

const modes = { whoami, refusals, metadata, presign };
const results = {};
for (const name of process.argv.slice(2)) results[name] = await modes[name]();
console.log(JSON.stringify(results));
