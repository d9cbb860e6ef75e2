//! Of which resources does the reason of a refusal speak?
//!
//! The protocol has no field for that: a refusal is one of a whole response, with a text. Ours begins each part with the
//! name that it is about: `a: no; b: neither`. Others name resources somewhere in a sentence, between spaces or quotes:
//! `Error adding/updating cluster(s) a: no, b: neither`.

/// What names hold beside letters and digits, so that none of it is a border of one.
const INSIDE: [char; 5] = ['-', '_', '.', ':', '/'];
/// What may stand behind a name at the end of a part or of a sentence.
const BEHIND: [char; 2] = [':', '.'];

/// Which of `names` the reason is about: those that begin a part; where none does, those that stand in it as a word.
pub(super) fn named<'a>(reason: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<&'a str> {
    let begins: Vec<&str> = names.clone().filter(|name| begins_part(reason, name)).collect();
    if begins.is_empty() {
        return names.filter(|name| is_word(reason, name)).collect();
    }
    begins
}

fn begins_part(reason: &str, name: &str) -> bool {
    let behind = |part: &str| part.strip_prefix(name).is_some_and(|rest| rest.starts_with(": "));
    reason.split("; ").any(behind)
}

fn is_word(reason: &str, name: &str) -> bool {
    let is_inside = |c: char| c.is_alphanumeric() || INSIDE.contains(&c);
    reason.match_indices(name).any(|(at, _)| {
        let (before, after) = (reason.get(..at), reason.get(at + name.len()..));
        let begins = before.is_some_and(|before| !before.ends_with(is_inside));
        let ends =
            after.is_some_and(|after| !after.strip_prefix(BEHIND).unwrap_or(after).starts_with(is_inside));
        !name.is_empty() && begins && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["api.default:80", "shop-api.default:80", "api.default", "web"];

    fn of(reason: &str) -> Vec<&'static str> {
        named(reason, NAMES.into_iter())
    }

    #[test]
    fn ours_names_what_begins_a_part_and_nothing_that_a_name_or_a_sentence_holds() {
        assert_eq!(of("shop-api.default:80: no"), ["shop-api.default:80"]);
        assert_eq!(of("api.default:80: no"), ["api.default:80"]);
        assert_eq!(of("web: the way to api.default:80 is unknown"), ["web"]);
        assert_eq!(of("web: no; api.default: no; and 2 more"), ["api.default", "web"]);
    }

    #[test]
    fn others_name_resources_as_words() {
        let clusters =
            "Error adding/updating cluster(s) shop-api.default:80: said no, web: duplicate cluster web found";
        assert_eq!(of(clusters), ["shop-api.default:80", "web"]);
        assert_eq!(of("Error adding/updating listener(s) web: no\n"), ["web"]);
        assert_eq!(
            of("xds: resource \"api.default:80\" is not valid"),
            ["api.default:80"]
        );
        assert_eq!(of("nothing is known of api.default."), ["api.default"]);
        for none in [
            "",
            "?!",
            "webs and a cobweb",
            "api.default:8080",
            "web/v2, my.web",
        ] {
            assert!(of(none).is_empty(), "{none}");
        }
    }
}
