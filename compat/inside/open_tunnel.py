"""Inside a pocket: opens a tunnel by the DNS name of an endpoint, over TLS at port 443 as the AWS CLI does, with the
operator's key, and prints the first line that comes.

usage: open_tunnel.py COMPAT ENDPOINT-ID DNS-NAME ADDRESS REGION
"""

import json
import os
import ssl
import sys

sys.path.insert(0, sys.argv[1])

from botocore.credentials import Credentials  # noqa: E402

from tunnel import link, open_link  # noqa: E402

_, _, endpoint, name, address, region = sys.argv
key = Credentials(os.environ["OPERATOR_ID"], os.environ["OPERATOR_SECRET"])
url = link(f"https://{name}", region, key, instanceConnectEndpointId=endpoint, remotePort=22, privateIpAddress=address)
with open_link(url, ssl=ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])) as tunnel:
    print(json.dumps({"banner": tunnel.recv(timeout=20).decode()}))
