"""Run inside a pocket: does a plain TLS client trust the region, with no setting of ours passed to it?"""

import http.client
import json
import os
import ssl
import sys

region = sys.argv[1]
found = {}
for name in (f"sts.{region}.amazonaws.com", f"ssm.{region}.amazonaws.com", "sts.amazonaws.com"):
    try:
        connection = http.client.HTTPSConnection(name, timeout=5, context=ssl.create_default_context())
        connection.request("GET", "/")
        found[name] = connection.getresponse().status
    except OSError as error:
        found[name] = repr(error)
variables = ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"]
print(json.dumps({"answers": found, "variables": {name: os.environ.get(name) for name in variables}}))
