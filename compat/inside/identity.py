"""Run inside a pocket: who am I, by every road that boto3's default credential chain and its endpoints offer?"""

import json
import os
import sys

import boto3

region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or boto3.session.Session().region_name
domain = sys.argv[1] if len(sys.argv) > 1 else "amazonaws.com"
session = boto3.session.Session(region_name=region)


def who(**more) -> dict:
    answer = session.client("sts", **more).get_caller_identity()
    return {"Arn": answer["Arn"], "UserId": answer["UserId"], "Account": answer["Account"]}


credentials = session.get_credentials()
default = session.client("sts")
print(
    json.dumps(
        {
            "method": credentials.method,
            "key_prefix": credentials.access_key[:4],
            "token_length": len(credentials.token),
            "region": region,
            "default_endpoint": default.meta.endpoint_url,
            "default": who(),
            "regional": who(endpoint_url=f"https://sts.{region}.{domain}"),
            "global": who(endpoint_url=f"https://sts.{domain}", region_name="us-east-1"),
        }
    )
)
