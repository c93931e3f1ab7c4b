"""ADOT's session signs what OpenTelemetry's exporter sends: how a Python program tells what it sees."""

import json
import os
import sys

from amazon.opentelemetry.distro.exporter.otlp.aws.common.aws_auth_session import AwsAuthSession
from botocore.session import Session
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

endpoint, region, count = sys.argv[1], os.environ["AWS_REGION"], int(sys.argv[2])
exporter = OTLPLogExporter(
    endpoint=endpoint,
    compression=Compression.Gzip,
    session=AwsAuthSession(aws_region=region, service="guardduty", session=Session()),
)
provider = LoggerProvider(
    resource=Resource({"service.name": "export_logs", "service.version": "1", "host.id": "i-lie"})
)
provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
logger = provider.get_logger("inborn")
for number in range(count):
    event = {"class_uid": 1007, "activity_id": 1, "process": {"pid": number}}
    body = json.dumps(event) if number % 2 else event
    logger.emit(body=body, event_name="Process Activity", attributes={"log.record.uid": f"adot-{number}"})
provider.shutdown()
