//! The roles that people have as approvers, beside those that their credentials tell.

use std::collections::BTreeMap;

use super::Role;
use crate::approval::check_who;
use crate::{Error, Result};

/// Who has which role, from `ORCHESTRATOR_ROLE_<NAME>`.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles(BTreeMap<String, Vec<String>>);

impl Roles {
    /// Gives `role` to everybody of `names`: names of API keys or subs of tokens.
    pub(super) fn add<'n>(&mut self, role: &str, names: impl IntoIterator<Item = &'n str>) -> Result {
        let refuse = |what: String| Err(Error::Invalid { what });
        if role.contains(':') || check_who(role).is_err() {
            return refuse("names no role; write a word of letters, digits and _ . -, like sre".into());
        }
        if role.parse::<Role>().is_ok() {
            return refuse(format!("cannot give the role {role}: it comes with the credential. Choose another name"));
        }
        for name in names.into_iter().map(str::trim).filter(|name| !name.is_empty()) {
            check_who(name)?;
            let roles = self.0.entry(name.to_ascii_lowercase()).or_default();
            if !roles.iter().any(|had| had == role) {
                roles.push(role.into());
            }
        }
        Ok(())
    }

    /// The roles of `name`, whose case does not matter.
    pub(super) fn of(&self, name: &str) -> &[String] {
        self.0.get(&name.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_the_roles_of_credentials_are_not_given_away() {
        let mut roles = Roles::default();
        roles.add("sre", ["alice", " BOB ", ""]).expect("fair");
        roles.add("lead", ["Alice", "ci@example.com"]).expect("fair");
        assert_eq!(roles.of("ALICE"), ["sre", "lead"]);
        assert_eq!((roles.of("bob"), roles.of("ci@example.com")), (&["sre".to_owned()][..], &["lead".to_owned()][..]));
        assert!(roles.of("carol").is_empty());
        for (role, name) in [("admin", "alice"), ("", "alice"), ("a b", "alice"), ("role:x", "alice"), ("sre", "a b")] {
            assert!(roles.add(role, [name]).is_err(), "{role} {name}");
        }
    }
}
