//! `inborn role`: the roles that can be passed to machines. Operations of IAM, signed by the operator.

use std::io::Write;

use anyhow::Context;
use roxmltree::{Document, Node};
use serde_json::{Value, json};

use super::arguments::{CreateRole, ListRoles, Role, RoleCommand};
use crate::arguments::Output;
use crate::operator::{Local, Operator};
use crate::output;

/// The setting that says which role is passed.
const SETTING: &str = "/ssm/managed-instance/default-ec2-instance-management-role";
/// Whom the roles trust. Source: the user guide, "Default Host Management Configuration", trust policy.
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ssm.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;

pub(crate) async fn role(arguments: &Role) -> anyhow::Result<()> {
    match &arguments.command {
        RoleCommand::Create(arguments) => create(arguments).await,
        RoleCommand::List(arguments) => list(arguments).await,
        RoleCommand::Delete(arguments) => {
            let operator = Operator::find(&arguments.region).await?;
            operator.iam("DeleteRole", &[("RoleName", &arguments.name)]).await.map(drop)
        }
    }
}

async fn create(arguments: &CreateRole) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let mut parameters =
        vec![("RoleName", arguments.name.as_str()), ("Path", &arguments.path), ("AssumeRolePolicyDocument", TRUST)];
    parameters.extend(arguments.description.as_deref().map(|text| ("Description", text)));
    let answer = operator.iam("CreateRole", &parameters).await?;
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    let made = roles(&document, "Role").next().context("the region's answer has no role")?;
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{:#}", output::Json(&to_json(made, None)))?,
        Output::Table => {
            let (name, arn) = (made.child_text("RoleName"), made.child_text("Arn"));
            output::fields(&mut out, &[("role", &name), ("arn", &arn)])?;
        }
    }
    Ok(())
}

async fn list(arguments: &ListRoles) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let setting = operator.ssm("GetServiceSetting", &json!({"SettingId": SETTING})).await?;
    let passed = setting.pointer("/ServiceSetting/SettingValue").and_then(Value::as_str).unwrap_or_default();
    let passed = passed.rsplit('/').next().unwrap_or(passed);
    let (mut rows, mut facts, mut marker) = (Vec::new(), Vec::new(), String::new());
    loop {
        let after = (!marker.is_empty()).then_some(("Marker", marker.as_str()));
        let answer = operator.iam("ListRoles", after.as_slice()).await?;
        let document = Document::parse(&answer).context("the region's answer is not XML")?;
        for role in roles(&document, "member") {
            let name = role.child_text("RoleName");
            let is_passed = name.eq_ignore_ascii_case(passed);
            facts.push(to_json(role, Some(is_passed)));
            let word = if is_passed { "yes" } else { "-" };
            rows.push([name, role.child_text("Path"), role.child_text("CreateDate"), word.to_owned()]);
        }
        let next = document.descendants().find(|node| node.has_tag_name_local("Marker"));
        match next.and_then(|node| node.text()) {
            Some(next) => next.clone_into(&mut marker),
            None => break,
        }
    }
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{:#}", output::Json(&Value::Array(facts)))?,
        Output::Table => output::table(&mut out, ["ROLE", "PATH", "CREATED", "PASSED"], &rows)?,
    }
    Ok(())
}

/// The roles in an answer: elements of this name that have one's name.
fn roles<'a>(document: &'a Document<'a>, element: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.has_tag_name_local(element) && node.child("RoleName").is_some())
}

fn to_json(role: Node<'_, '_>, is_passed: Option<bool>) -> Value {
    let mut facts = json!({
        "role": role.child_text("RoleName"),
        "path": role.child_text("Path"),
        "arn": role.child_text("Arn"),
        "created": role.child_text("CreateDate"),
    });
    if let (Some(is_passed), Some(facts)) = (is_passed, facts.as_object_mut()) {
        facts.insert("passed".to_owned(), is_passed.into());
    }
    facts
}
