//! The table `[detection]`.

use std::path::PathBuf;

use inborn_detect::away::{AwaySettings, Policy, Replayer, network};
use inborn_region::DetectionSettings;
use serde::Deserialize;

use super::Destination;

/// The most networks, replayers, rules that are not used, or outputs.
const LIST_LENGTH_MAX: usize = 256;

/// The table, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileDetection {
    enabled: Option<bool>,
    own_rules: Option<bool>,
    rules: Option<PathBuf>,
    disabled_rules: Option<Vec<String>>,
    outputs: Option<Vec<String>>,
    credentials_away: Option<String>,
    machine_networks: Option<Vec<String>>,
    trusted_replayers: Option<Vec<String>>,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detection {
    /// `None` where it is switched off.
    pub(crate) settings: Option<DetectionSettings>,
    /// Where findings go beside the store.
    pub(crate) outputs: Vec<Destination>,
}

impl Default for Detection {
    fn default() -> Self {
        Self { settings: Some(DetectionSettings::default()), outputs: Vec::new() }
    }
}

impl FileDetection {
    /// Checks the table; what is wrong joins the list.
    pub(crate) fn check(self, mistakes: &mut Vec<String>) -> Detection {
        let policy = match self.credentials_away.as_deref() {
            None => Policy::default(),
            Some(text) => text.parse().unwrap_or_else(|error| {
                mistakes.push(format!("detection.credentials_away `{text}`: {error}"));
                Policy::default()
            }),
        };
        if policy == Policy::Enforce && self.enabled == Some(false) {
            mistakes
                .push("detection.credentials_away: `enforce` refuses nothing while detection.enabled is false".into());
        }
        let networks = list("machine_networks", self.machine_networks, mistakes, |text| {
            network(text).ok_or_else(|| "not an address or a network, as in 10.0.0.0/8".to_owned())
        });
        let replayers = list("trusted_replayers", self.trusted_replayers, mistakes, |text| {
            text.parse::<Replayer>().map_err(|error| error.to_string())
        });
        let disabled = list("disabled_rules", self.disabled_rules, mistakes, |text| Ok(text.to_owned()));
        let outputs = list("outputs", self.outputs, mistakes, |text| text.parse::<Destination>());
        let settings = DetectionSettings {
            own_rules: self.own_rules.unwrap_or(true),
            directory: self.rules,
            disabled: disabled.into_iter().collect(),
            away: AwaySettings { policy, networks, replayers },
        };
        Detection { settings: self.enabled.unwrap_or(true).then_some(settings), outputs }
    }
}

fn list<T>(
    name: &str,
    texts: Option<Vec<String>>,
    mistakes: &mut Vec<String>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let texts = texts.unwrap_or_default();
    if texts.len() > LIST_LENGTH_MAX {
        mistakes.push(format!("detection.{name}: more than {LIST_LENGTH_MAX} entries"));
        return Vec::new();
    }
    let mut found = Vec::new();
    for text in texts {
        match read(&text) {
            Ok(value) => found.push(value),
            Err(error) => mistakes.push(format!("detection.{name} `{text}`: {error}")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Detection, Vec<String>) {
        let mut mistakes = Vec::new();
        let detection = toml::from_str::<FileDetection>(text).unwrap().check(&mut mistakes);
        (detection, mistakes)
    }

    #[test]
    fn without_a_word_it_is_on_and_refuses_nothing() {
        let (detection, mistakes) = read("");
        assert!(mistakes.is_empty());
        assert_eq!(detection, Detection::default());
        let settings = detection.settings.unwrap();
        assert!(settings.own_rules);
        assert_eq!(settings.away.policy, Policy::Detect);
        assert!(settings.away.networks.is_empty());
    }

    #[test]
    fn every_key_is_read() {
        let (detection, mistakes) = read(
            r#"own_rules = false
rules = "/etc/inborn/rules"
disabled_rules = ["a"]
outputs = ["stdout", "/var/log/findings.jsonl", "https://siem.example/hook"]
credentials_away = "enforce"
machine_networks = ["172.31.0.0/16"]
trusted_replayers = ["10.0.0.1", "i-0123456789abcdef0"]"#,
        );
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(detection.outputs.len(), 3);
        let settings = detection.settings.unwrap();
        assert_eq!((settings.own_rules, settings.disabled.len(), settings.away.policy), (false, 1, Policy::Enforce));
        assert_eq!((settings.away.networks.len(), settings.away.replayers.len()), (1, 2));
        assert_eq!(read("enabled = false").0.settings, None);
        assert_eq!(read("enabled = false\ncredentials_away = 'enforce'").1.len(), 1);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let (_, mistakes) = read(
            r#"credentials_away = "on"
machine_networks = ["10.0.0.0/99"]
trusted_replayers = ["somebody"]
outputs = ["http://siem.example/hook", "findings.jsonl"]"#,
        );
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
        assert!(toml::from_str::<FileDetection>("ruels = 1").is_err());
    }

    #[test]
    fn lists_below_at_and_above_the_limit() {
        for (count, refused) in [(LIST_LENGTH_MAX - 1, 0), (LIST_LENGTH_MAX, 0), (LIST_LENGTH_MAX + 1, 1)] {
            let (_, mistakes) = read(&format!("disabled_rules = [{}]", vec!["'a'"; count].join(",")));
            assert_eq!(mistakes.len(), refused, "{count}");
        }
    }
}
