"""Run inside a pocket: what is the identity role told when it asks for something it may not have?"""

import json
import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

region = os.environ.get("AWS_REGION") or boto3.session.Session().region_name
session = boto3.session.Session(region_name=region)
once = Config(retries={"total_max_attempts": 1})


def told(service: str, operation: str, endpoint: str | None = None, **parameters) -> dict:
    client = session.client(service, config=once, endpoint_url=endpoint)
    try:
        getattr(client, operation)(**parameters)
    except ClientError as error:
        answer = error.response
        return {
            "status": answer["ResponseMetadata"]["HTTPStatusCode"],
            "code": answer["Error"]["Code"],
            "message": answer["Error"].get("Message", ""),
        }
    except Exception as error:  # noqa: BLE001 what exactly went wrong is for the test to print
        return {"status": 0, "code": type(error).__name__, "message": str(error)}
    return {"status": 200, "code": "", "message": ""}


print(
    json.dumps(
        {
            "sts get_session_token": told("sts", "get_session_token"),
            "sts assume_role": told(
                "sts", "assume_role", RoleArn="arn:aws:iam::123456789012:role/other", RoleSessionName="me"
            ),
            "sqs list_queues": told("sqs", "list_queues"),
            "dynamodb list_tables": told("dynamodb", "list_tables"),
            "ssm describe_parameters": told("ssm", "describe_parameters"),
            "iam list_users": told("iam", "list_users", endpoint=f"https://iam.{region}.amazonaws.com"),
            "ec2 describe_instances": told("ec2", "describe_instances"),
            "ec2 terminate_instances": told("ec2", "terminate_instances", InstanceIds=["i-0123456789abcdef0"]),
            "s3 list_buckets": told("s3", "list_buckets", endpoint=f"https://s3.{region}.amazonaws.com"),
        }
    )
)
