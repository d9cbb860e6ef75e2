//! Which variable has nearly the name of a setting, and says nothing to anybody for it?
//!
//! Variables that begin with `MESH_` may be other programs', or Kubernetes' of a service that is called so: only one that is
//! nearly a setting's is told, and none is refused. `src/cli/mistyped.ts` goes by the same rule.

use mesh_model::validate::distance;

use super::help::valued;

const PREFIX: &str = "MESH_";
/// Nobody mistypes a longer name by a letter.
const LONGEST: usize = 64;
/// What the command `mesh` and applications of a mesh are told by.
const OTHERS: [&str; 5] = [
    "MESH_NAMES",
    "MESH_PLAINTEXT_XDS",
    "MESH_SIDECAR",
    "MESH_SOCKET",
    "MESH_TRUST_ANCHORS_OUT",
];
/// And where applications find services, one variable for each.
const URLS: &str = "MESH_URL_";
/// What the address of a service begins with that Kubernetes tells: `MESH_PORT=tcp://10.0.0.1:80` of one called `mesh`.
const LINKS: [&str; 3] = ["tcp://", "udp://", "sctp://"];

/// A line for each variable that is taken for a mistyped one.
pub(crate) fn mistyped(environment: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut lines: Vec<_> = environment
        .filter(|(_, value)| !value.is_empty() && !LINKS.iter().any(|link| value.starts_with(link)))
        .filter_map(|(name, _)| {
            let meant = meant(&name)?;
            Some(format!(
                "{} is no variable of mesh-sidecar; did you mean {meant}?",
                name.escape_debug()
            ))
        })
        .collect();
    lines.sort();
    lines
}

/// The variable that differs in a third of its letters at most, or in one; `_` costs nothing.
fn meant(name: &str) -> Option<&'static str> {
    let is_known = valued().any(|(_, variable)| variable == name) || OTHERS.contains(&name);
    if is_known || name.starts_with(URLS) || name.len() > LONGEST {
        return None;
    }
    let simple = |name: &str| Some(name.strip_prefix(PREFIX)?.replace('_', "").to_ascii_lowercase());
    let wanted = simple(name)?;
    let differs = |variable: &str| Some(distance(&wanted, &simple(variable)?));
    let (differs, nearest) = valued()
        .filter_map(|(_, variable)| Some((differs(variable)?, variable)))
        .min_by_key(|(differs, _)| *differs)?;
    (differs <= (wanted.len() / 3).max(1)).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_nearly_one_is_told_and_others_are_none_of_its_business() {
        for (name, nearest) in [
            ("MESH_THREDS", "MESH_THREADS"),
            ("MESH_AMDIN", "MESH_ADMIN"),
            ("MESH_LAMEDUCK", "MESH_LAME_DUCK"),
            ("MESH_LOG_LEVLE", "MESH_LOG_LEVEL"),
            ("MESH_PORT", "MESH_PORTS"),
        ] {
            assert_eq!(meant(name), Some(nearest), "{name}");
        }
        for name in [
            "MESH_",
            "MESH_SERVICE_HOST",
            "MESH_SERVICE_PORT",
            "MESH_PORT_80_TCP_ADDR",
            "MESH_CONTROL_SERVICE_PORT",
            "MESH_NODE",
            "MESH_TOKEN",
            "MESH_URL_NAME",
            "THREDS",
            "MESH_THREADS",
        ]
        .into_iter()
        .chain(OTHERS)
        {
            assert_eq!(meant(name), None, "{name}");
        }
        assert_eq!(meant(&format!("MESH_{}", "THREADS".repeat(20))), None);
        let told = [
            ("MESH_PORT", "tcp://10.0.0.1:80"),
            ("MESH_THREDS", ""),
            ("MESH_TREADS", "2"),
        ];
        let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            mistyped(told.into_iter()),
            ["MESH_TREADS is no variable of mesh-sidecar; did you mean MESH_THREADS?"]
        );
    }
}
