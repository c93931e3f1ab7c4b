//! `Inborn.CreateOperator`: a key pair with which somebody may do what operators of an account may. The one time that its secret is
//! seen.

use inborn_store::Operator;
use inborn_wire::error::Problem;
use serde_json::json;

use super::{account, refusal, request, shape};
use crate::operation::{Call, Outcome, Reply};

const NAME: &str = "Inborn.CreateOperator";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let id = account::of_operators(&call, NAME)?;
        let root = call.parameters.root();
        let name = root.get("Name").ok_or_else(|| refusal::missing_parameter("Name"))?;
        check_name(name)?;
        request::finish(call.parameters)?;
        let made = call.region.create_operator(id, name, call.now).await.map_err(account::of_error)?;
        let answer = shape::response(NAME, call.request_id, |w| {
            account::write_operator(w, &call, &made.operator);
            w.leaf("secretAccessKey", made.secret.expose());
        });
        let response_elements = json!({
            "accessKeyId": made.operator.access_key_id.as_str(),
            "accountId": id.to_string(),
            "name": name,
        });
        Ok(Reply { answer, response_elements })
    })
}

/// As IAM's user names are. Source: IAM's model, `UserName`.
fn check_name(name: &str) -> Result<(), Problem> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if (1..=Operator::NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_good) {
        return Ok(());
    }
    let message = format!("Name has 1 to {} letters, digits and +=,.@_-", Operator::NAME_BYTES_MAX);
    Err(refusal::invalid_value(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_at_and_above_the_longest() {
        for (length, is_good) in [(0, false), (1, true), (63, true), (64, true), (65, false)] {
            assert_eq!(check_name(&"n".repeat(length)).is_ok(), is_good, "{length}");
        }
        for (name, is_good) in [("a.b+c=d,e@f_g-h", true), ("a b", false), ("a/b", false), ("ä", false), ("a:b", false)]
        {
            assert_eq!(check_name(name).is_ok(), is_good, "{name}");
        }
    }
}
