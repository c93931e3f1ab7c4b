//! Which region of a deployment a request is for: told from what it says of itself, and from who can open its token.

use std::sync::Arc;

use inborn_identity::Region;

use crate::RegionServer;

/// The service whose sessions are good in every region.
const STS: &str = "sts";
/// The service that is the deployment's, as roles are.
const IAM: &str = "iam";

/// Where a request goes.
pub(crate) struct Route {
    /// The region that answers it.
    pub(crate) region: Arc<RegionServer>,
    /// The region of the deployment that the host name names.
    pub(crate) host_region: Option<Region>,
    /// Whether a session came to STS whose token none of the regions has issued, as far as they have heard.
    pub(crate) is_unclaimed: bool,
    /// Whether all was heard that any of them had to hear of when the request came.
    pub(crate) has_waited: bool,
}

impl Route {
    /// To a region, whatever is asked.
    pub(crate) fn to(region: &Arc<RegionServer>) -> Self {
        Self { region: Arc::clone(region), host_region: None, is_unclaimed: false, has_waited: false }
    }
}

/// What a request says of where it wants to go. Nothing of it is verified yet. It holds a token, and is never shown but by tests.
#[derive(Clone, Copy, Default)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Asked<'a> {
    /// The service that is meant.
    pub(crate) service: Option<&'a str>,
    /// The part of the host name before the domain, if it is one of our names: `sts.us-east-1`.
    pub(crate) host: Option<&'a str>,
    /// The region in the scope of the signature.
    pub(crate) scope_region: Option<&'a str>,
    /// The access key id, and the session token that came with it.
    pub(crate) session: Option<(&'a str, &'a [u8])>,
    /// The session of Session Manager whose data channel is opened without a signature.
    pub(crate) data_channel: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// The access key id and the token of a session at the service where every region's are good.
    pub(crate) fn session_at_sts(&self) -> Option<(&'a str, &'a [u8])> {
        self.session.filter(|_| self.service == Some(STS))
    }

    /// The region that the host name names, by its index. It is the last label before the domain, and never the only one.
    pub(crate) fn host_region(&self, names: &[&str]) -> Option<usize> {
        let (_, label) = self.host?.rsplit_once('.')?;
        names.iter().position(|name| name.eq_ignore_ascii_case(label))
    }

    /// The region, by its index; `None` where nothing tells. `names` begin with the home's. `has_issued` says whether a region
    /// has made a token, `has_session` whether it has such a session.
    pub(crate) fn region(
        &self,
        names: &[&str],
        host_region: Option<usize>,
        has_issued: impl Fn(usize, &str, &[u8]) -> bool,
        has_session: impl Fn(usize, &str) -> bool,
    ) -> Option<usize> {
        let mut all = 0..names.len();
        // Whoever has issued it knows whether it is still good. Nobody else is asked, whatever the scope says.
        if let Some((key, token)) = self.session_at_sts()
            && let Some(issuer) = all.clone().find(|index| has_issued(*index, key, token))
        {
            return Some(issuer);
        }
        if self.service == Some(IAM) {
            return Some(0);
        }
        if let (Some(id), None) = (self.data_channel, self.scope_region)
            && let Some(index) = all.find(|index| has_session(*index, id))
        {
            return Some(index);
        }
        // A scope of another region than the host's is refused there, as everywhere on AWS.
        host_region.or_else(|| names.iter().position(|name| Some(*name) == self.scope_region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 3] = ["us-east-1", "eu-west-1", "lab"];

    /// Tokens here are the index of the region that made them.
    fn region(asked: Asked<'_>) -> Option<usize> {
        let has_issued = |index: usize, _: &str, token: &[u8]| token == [u8::try_from(index).unwrap()];
        asked.region(&NAMES, asked.host_region(&NAMES), has_issued, |index, id| id == NAMES[index])
    }

    #[test]
    fn each_request_has_its_region() {
        let token = |index: &'static [u8]| Some(("ASIA", index));
        for (service, host, scope, session, expected) in [
            // A session at STS: who made it, whatever else is said.
            ("sts", None, Some("us-east-1"), token(&[1]), Some(1)),
            ("sts", Some("sts.lab"), Some("lab"), token(&[1]), Some(1)),
            ("sts", Some("sts"), Some("us-east-1"), token(&[2]), Some(2)),
            // Nobody has made it.
            ("sts", None, Some("eu-west-1"), token(&[9]), Some(1)),
            ("sts", Some("sts.eu-west-1"), Some("us-east-1"), token(&[9]), Some(1)),
            // At another service it is not asked who has.
            ("ec2", None, Some("us-east-1"), token(&[1]), Some(0)),
            ("ssm", Some("ssm.lab"), Some("lab"), token(&[1]), Some(2)),
            // An operator.
            ("sts", None, Some("lab"), None, Some(2)),
            ("ec2", None, Some("eu-west-1"), None, Some(1)),
            ("ec2", Some("EC2.EU-West-1"), Some("eu-west-1"), None, Some(1)),
            // The host's, where the two do not agree: it refuses.
            ("ec2", Some("ec2.lab"), Some("eu-west-1"), None, Some(2)),
            ("ec2", Some("ec2.mars-1"), Some("eu-west-1"), None, Some(1)),
            ("ec2", Some("ec2.eu-west-1"), Some("mars-1"), None, Some(1)),
            ("ec2", Some("ec2.eu-west-1"), None, None, Some(1)),
            // Nothing tells.
            ("ec2", None, Some("mars-1"), None, None),
            ("ec2", None, None, None, None),
            ("ec2", Some("ec2"), None, None, None),
            ("ec2", Some("lab"), None, None, None),
            // The deployment's.
            ("iam", None, Some("lab"), None, Some(0)),
            ("iam", Some("iam"), Some("us-east-1"), None, Some(0)),
            ("iam", Some("iam.lab"), Some("lab"), token(&[1]), Some(0)),
        ] {
            let asked = Asked { service: Some(service), host, scope_region: scope, session, data_channel: None };
            assert_eq!(region(asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn a_data_channel_without_a_signature_goes_where_its_session_is() {
        let asked = Asked { service: Some("ssmmessages"), data_channel: Some("lab"), ..Asked::default() };
        assert_eq!(region(asked), Some(2));
        assert_eq!(region(Asked { host: Some("ssmmessages.eu-west-1"), ..asked }), Some(2));
        assert_eq!(
            region(Asked { scope_region: Some("eu-west-1"), ..asked }),
            Some(1),
            "who signs is told by the scope"
        );
        assert_eq!(region(Asked { data_channel: Some("none"), ..asked }), None);
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("us-east-1".to_owned()),
            Just("eu-west-1".to_owned()),
            Just("lab".to_owned()),
            Just("mars-1".to_owned()),
            "[a-z0-9.-]{0,12}"
        ]
    }

    proptest! {
        /// At STS a token is judged by who made it or by nobody that could let it in; elsewhere the region that is chosen
        /// is the one that the scope names, or one that refuses that scope.
        #[test]
        fn no_other_region_judges_a_token(
            is_sts: bool, label in proptest::option::of(text()), scope in proptest::option::of(text()), made_by in 0_u8..5,
        ) {
            let host = label.map(|label| format!("x.{label}"));
            let token = [made_by];
            let service = Some(if is_sts { "sts" } else { "ec2" });
            let session = Some(("ASIA", &token[..]));
            let asked =
                Asked { service, host: host.as_deref(), scope_region: scope.as_deref(), session, data_channel: None };
            let found = region(asked);
            let issuer = Some(usize::from(made_by)).filter(|index| *index < NAMES.len());
            if is_sts && issuer.is_some() {
                prop_assert_eq!(found, issuer);
            } else {
                let of_scope = NAMES.iter().position(|name| Some(*name) == scope.as_deref());
                let of_host = asked.host_region(&NAMES);
                prop_assert!(found == of_host || of_host.is_none() && found == of_scope);
            }
        }
    }
}
