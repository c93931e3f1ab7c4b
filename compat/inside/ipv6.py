"""Inside a pocket: botocore's own readers of metadata, which the variables send to the IPv6 endpoint."""

from __future__ import annotations

import json
import os

from botocore.session import Session
from botocore.utils import IMDSRegionProvider, InstanceMetadataFetcher

session = Session()
# By itself it waits for one second, once.
session.set_config_variable("metadata_service_timeout", 5)
session.set_config_variable("metadata_service_num_attempts", 3)
provider = IMDSRegionProvider(session)
fetcher = InstanceMetadataFetcher(env=dict(os.environ), config={"ec2_metadata_service_endpoint_mode": "ipv6"})
print(json.dumps({"region": provider.provide(), "endpoint": fetcher.get_base_url()}))
