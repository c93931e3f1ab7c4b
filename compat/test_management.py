"""Default Host Management: botocore as the operator, and an agent that signs with botocore and OpenSSL."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from harness import Region, read_exports
from metadata import Metadata

SETTING = "/ssm/managed-instance/default-ec2-instance-management-role"
ROLE = "AWSSystemsManagerDefaultEC2InstanceManagementRole"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ssm.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


class Agent:
    """A machine's agent: the credentials of its identity role, and a key pair of its own."""

    def __init__(self, region: Region, place: Path) -> None:
        exports = read_exports(region.cli("launch", "--export").stdout)
        self.region, self.key = region, place / "agent.pem"
        self.id = exports["INSTANCE_ID"]
        self.endpoint = exports["AWS_ENDPOINT_URL"]
        self.region_name = exports["AWS_REGION"]
        found = Metadata(exports["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).identity()
        self.identity = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["Token"])
        openssl("genrsa", "-out", str(self.key), "2048")
        der = openssl("rsa", "-in", str(self.key), "-pubout", "-outform", "DER")
        self.public_key = base64.b64encode(der).decode()

    def call(self, operation: str, body: dict, credentials: Credentials | None = None, second: bool = False):
        """The status and the body of a signed call; `second` adds the signature of the agent's own key."""
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"AmazonSSM.{operation}"}
        request = AWSRequest("POST", f"{self.endpoint}/", headers=headers, data=json.dumps(body).encode())
        SigV4Auth(credentials or self.identity, "ssm", self.region_name).add_auth(request)
        prepared = request.prepare()
        sent = dict(prepared.headers)
        if second:
            sent["SSM-AsymmetricKeyAuthorization"] = f"Signature={self.sign(sent['Authorization'])}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(prepared.url, data=prepared.body, headers=sent, method="POST"), timeout=20
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def sign(self, authorization: str) -> str:
        options = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32")
        signature = openssl("dgst", "-sha256", "-sign", str(self.key), *options, data=authorization.encode())
        return base64.b64encode(signature).decode()

    def register(self):
        body = {"Fingerprint": self.id, "PublicKey": self.public_key, "PublicKeyType": "Rsa"}
        return self.call("RegisterManagedInstance", body)

    def role_token(self):
        return self.call("RequestManagedInstanceRoleToken", {"Fingerprint": self.id}, second=True)


def openssl(*words: str, data: bytes | None = None) -> bytes:
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=True).stdout


@pytest.fixture
def agent(region: Region, tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(region, tmp_path)
    yield agent
    region.client("ssm").reset_service_setting(SettingId=SETTING)
    region.cli("terminate", agent.id)


def test_botocore_turns_host_management_on_and_off(region: Region):
    ssm = region.client("ssm")
    off = ssm.get_service_setting(SettingId=SETTING)["ServiceSetting"]
    assert (off["SettingValue"], off["Status"]) == ("$None", "Default")
    ssm.update_service_setting(SettingId=off["ARN"], SettingValue=f"service-role/{ROLE}")
    on = ssm.get_service_setting(SettingId=SETTING)["ServiceSetting"]
    assert (on["SettingValue"], on["Status"]) == (f"service-role/{ROLE}", "Customized")
    assert on["LastModifiedDate"].year >= 2026
    assert ssm.reset_service_setting(SettingId=SETTING)["ServiceSetting"] == off
    with pytest.raises(ClientError) as caught:
        ssm.get_service_setting(SettingId="/ssm/parameter-store/default-parameter-tier")
    assert caught.value.response["Error"]["Code"] == "ServiceSettingNotFound"


def test_an_agent_registers_is_online_and_ends_with_the_setting(region: Region, agent: Agent):
    ssm = region.client("ssm")
    assert agent.register() == (200, {"InstanceId": agent.id})
    status, refusal = agent.role_token()
    assert (status, refusal["__type"]) == (400, "AccessDeniedException")
    assert refusal["message"].startswith("Systems Manager's instance management role is not configured for account: ")
    ssm.update_service_setting(SettingId=SETTING, SettingValue=ROLE)
    status, token = agent.role_token()
    assert status == 200, token
    session = Credentials(token["AccessKeyId"], token["SecretAccessKey"], token["SessionToken"])
    facts = {
        "InstanceId": agent.id,
        "AgentName": "amazon-ssm-agent",
        "AgentVersion": "3.3.0.0",
        "PlatformType": "Linux",
    }
    assert agent.call("UpdateInstanceInformation", facts, session) == (200, {})
    pages = ssm.get_paginator("describe_instance_information").paginate(
        Filters=[{"Key": "InstanceIds", "Values": [agent.id]}]
    )
    (node,) = [node for page in pages for node in page["InstanceInformationList"]]
    assert (node["PingStatus"], node["AgentVersion"], node["IamRole"]) == ("Online", "3.3.0.0", ROLE)
    ssm.reset_service_setting(SettingId=SETTING)
    status, refusal = agent.call("UpdateInstanceInformation", facts, session)
    assert (status, refusal["__type"]) == (400, "ExpiredTokenException")


def test_what_an_agent_collects_is_found_by_botocore(region: Region, agent: Agent):
    ssm = region.client("ssm")
    ssm.update_service_setting(SettingId=SETTING, SettingValue=ROLE)
    agent.register()
    _status, token = agent.role_token()
    own = region.client("ssm", token)
    facts = {
        "InstanceId": agent.id,
        "AgentName": "amazon-ssm-agent",
        "AgentVersion": "3.3.0.0",
        "PlatformType": "Linux",
    }
    keys = Credentials(token["AccessKeyId"], token["SecretAccessKey"], token["SessionToken"])
    assert agent.call("UpdateInstanceInformation", facts, keys) == (200, {})
    programs = [{"Name": f"program-{number}", "Version": "1.0"} for number in range(60)]
    item = {"TypeName": "AWS:Application", "SchemaVersion": "1.1", "CaptureTime": "2026-11-26T18:00:00Z"}
    own.put_inventory(InstanceId=agent.id, Items=[{**item, "ContentHash": "h", "Content": programs}])
    own.put_compliance_items(
        ResourceId=agent.id,
        ResourceType="ManagedInstance",
        ComplianceType="Custom:Virus",
        ExecutionSummary={"ExecutionTime": 1795716000},
        Items=[{"Id": "v", "Severity": "HIGH", "Status": "NON_COMPLIANT", "Details": {"where": "/tmp"}}],
    )
    first = ssm.list_inventory_entries(InstanceId=agent.id, TypeName="AWS:Application")
    second = ssm.list_inventory_entries(
        InstanceId=agent.id, TypeName="AWS:Application", NextToken=first["NextToken"], MaxResults=50
    )
    assert first["Entries"] + second["Entries"] == programs
    pages = ssm.get_paginator("get_inventory").paginate(
        Filters=[{"Key": "AWS:InstanceInformation.InstanceId", "Values": [agent.id], "Type": "Equal"}]
    )
    (entity,) = [entity for page in pages for entity in page["Entities"]]
    (known,) = entity["Data"]["AWS:InstanceInformation"]["Content"]
    assert (known["InstanceStatus"], known["AgentVersion"]) == ("Active", "3.3.0.0")
    (found,) = ssm.list_compliance_items(ResourceIds=[agent.id])["ComplianceItems"]
    assert (found["ComplianceType"], found["Details"]) == ("Custom:Virus", {"where": "/tmp"})
    pages = ssm.get_paginator("describe_instance_properties").paginate(
        FiltersWithOperator=[{"Key": "InstanceIds", "Values": [agent.id], "Operator": "Equal"}]
    )
    (node,) = [node for page in pages for node in page["InstanceProperties"]]
    assert (node["InstanceState"], node["PingStatus"]) == ("running", "Online")


def test_botocore_makes_a_role_and_deletes_it(region: Region):
    iam = region.client("iam")
    role = iam.create_role(RoleName="Agents", AssumeRolePolicyDocument=json.dumps(TRUST), Description="für Agenten")[
        "Role"
    ]
    assert role["RoleId"].startswith("AROA")
    assert role["AssumeRolePolicyDocument"] == TRUST
    names = [role["RoleName"] for page in iam.get_paginator("list_roles").paginate() for role in page["Roles"]]
    assert names == ["Agents", ROLE]
    assert iam.get_role(RoleName="Agents")["Role"]["Description"] == "für Agenten"
    iam.delete_role(RoleName="Agents")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName="Agents")
