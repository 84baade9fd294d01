//! Class names: one per line, or as exporters write them into an ONNX file's metadata.

mod literal;

use literal::Literal;
use std::collections::BTreeMap;

/// Most classes of a model. The largest public detection sets have a few thousand.
const MAX_CLASSES: usize = 65_536;

/// Keys of the metadata under which exporters write names: Ultralytics and YOLOv5, Hugging Face,
/// PaddleDetection, others.
pub(in crate::infer) const METADATA_KEYS: [&str; 8] =
    ["names", "class_names", "classes", "labels", "id2label", "label_list", "label_map", "categories"];

/// `class_names.txt`: one name per line, blank lines skipped.
pub(super) fn of_lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_CLASSES).map(str::to_owned).collect()
}

/// Names with the ids that somebody gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::infer) struct Names {
    by_id: BTreeMap<usize, String>,
}

impl Names {
    /// Ids from 0 on; `None` where there are no names.
    pub(in crate::infer) fn of_list(names: Vec<String>) -> Option<Names> {
        Self::checked(names.into_iter().enumerate().collect())
    }

    /// The text of a metadata entry: a dictionary of ids or of names, a list or a tuple in Python's or JSON's
    /// way of writing, or lines such as YAML has (`0: person`, `- person`). `None` for anything else.
    pub(in crate::infer) fn of_metadata(text: &str) -> Option<Names> {
        let text = text.trim();
        let by_id = match text.chars().next()? {
            '{' | '[' | '(' => of_literal(literal::parse(text)?)?,
            _ => of_yaml(text)?,
        };
        Self::checked(by_id)
    }

    fn checked(by_id: BTreeMap<usize, String>) -> Option<Names> {
        let fits = by_id.last_key_value().is_some_and(|(id, _)| *id < MAX_CLASSES);
        fits.then_some(Names { by_id })
    }

    fn beyond_last(&self) -> usize {
        self.by_id.last_key_value().map_or(0, |(id, _)| id + 1)
    }

    fn begins_at_one(&self) -> bool {
        !self.by_id.contains_key(&0)
    }

    /// How many classes a model with these names may have, the likeliest first: an id for each; ids counted
    /// from 1; names for some ids of a data set, whose classes were numbered anew.
    pub(in crate::infer) fn counts(&self) -> Vec<usize> {
        let (all, listed) = (self.beyond_last(), self.by_id.len());
        let mut counts = Vec::new();
        if self.begins_at_one() && listed + 1 == all {
            counts.push(all - 1);
        }
        counts.extend([all, listed]);
        if self.begins_at_one() {
            counts.push(all - 1);
        }
        let mut seen = Vec::new();
        counts.retain(|count| !seen.contains(count) && (seen.push(*count), true).1);
        counts
    }

    /// The names of a model of `classes` classes, in their order; `None` where these names are not for so
    /// many. Classes that nobody named are called by their number.
    pub(in crate::infer) fn for_classes(&self, classes: usize) -> Option<Vec<String>> {
        let all = self.beyond_last();
        if classes == all {
            return Some(self.as_given());
        }
        if classes + 1 == all && self.begins_at_one() {
            return Some((1..all).map(|id| self.name(id)).collect());
        }
        (classes == self.by_id.len()).then(|| self.by_id.values().cloned().collect())
    }

    /// By their ids, for outputs that hold ids themselves.
    pub(in crate::infer) fn as_given(&self) -> Vec<String> {
        (0..self.beyond_last()).map(|id| self.name(id)).collect()
    }

    fn name(&self, id: usize) -> String {
        self.by_id.get(&id).cloned().unwrap_or_else(|| format!("class_{id}"))
    }
}

/// What a literal says about names.
fn of_literal(literal: Literal) -> Option<BTreeMap<usize, String>> {
    match literal {
        Literal::List(items) => {
            let entries = items.into_iter().enumerate().map(|(place, item)| match item {
                Literal::Dictionary(members) => of_category(&members, place),
                item => Some((place, item.into_name()?)),
            });
            entries.collect()
        }
        Literal::Dictionary(members) => {
            let ids = |members: &[(Literal, Literal)]| members.iter().all(|(key, _)| key.id().is_some());
            if ids(&members) {
                return members.into_iter().map(|(key, name)| Some((key.id()?, name.into_name()?))).collect();
            }
            // the other way round: name → id
            members.into_iter().map(|(name, id)| Some((id.id()?, name.into_name()?))).collect()
        }
        _ => None,
    }
}

/// `{"id": 3, "name": "car"}`, as COCO's categories are.
fn of_category(members: &[(Literal, Literal)], place: usize) -> Option<(usize, String)> {
    let member =
        |wanted: &str| members.iter().find(|(key, _)| matches!(key, Literal::Text(key) if key == wanted));
    let id = member("id").map_or(Some(place), |(_, id)| id.id())?;
    Some((id, member("name")?.1.clone().into_name()?))
}

/// Lines of `0: person` or `- person`, perhaps below a heading.
fn of_yaml(text: &str) -> Option<BTreeMap<usize, String>> {
    let mut by_id = BTreeMap::new();
    let mut lines = text
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty());
    let mut next = lines.next();
    if let Some((heading, rest)) = next.and_then(|line| line.split_once(':'))
        && heading.trim().parse::<usize>().is_err()
        && !heading.starts_with(['-', '"', '\''])
    {
        let rest = rest.trim();
        if rest.starts_with(['[', '{', '(']) {
            return of_literal(literal::parse(rest)?);
        }
        if !rest.is_empty() {
            return None;
        }
        next = lines.next();
    }
    for (place, line) in (0..).zip(next.into_iter().chain(lines)) {
        let (id, name) = match line.strip_prefix("- ") {
            Some(name) => (place, name),
            None => {
                let (id, name) = line.split_once(':')?;
                (id.trim().trim_matches(['"', '\'']).parse().ok()?, name)
            }
        };
        let name = name.trim();
        let quoted = name.starts_with(['"', '\'']);
        let name = if quoted { literal::parse(name)?.into_name()? } else { name.to_owned() };
        if name.is_empty() || by_id.len() > MAX_CLASSES {
            return None;
        }
        by_id.insert(id, name);
    }
    (!by_id.is_empty()).then_some(by_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Vec<(usize, String)>> {
        Names::of_metadata(text).map(|names| names.by_id.into_iter().collect())
    }

    #[test]
    fn metadata_as_exporters_write_it() {
        let list = |names: &[&str]| {
            Some(names.iter().enumerate().map(|(id, name)| (id, (*name).to_owned())).collect::<Vec<_>>())
        };
        for (text, names) in [
            ("{0: 'person', 1: 'traffic light'}", list(&["person", "traffic light"])),
            (r#"{"1": "b", "0": "a"}"#, list(&["a", "b"])),
            (r#"["a", 'it\'s', ]"#, list(&["a", "it's"])),
            (r#"{0: "driver's"}"#, list(&["driver's"])),
            ("('a', 'b', 'c')", list(&["a", "b", "c"])),
            ("{(0,): 'a', (1,): 'b'}", list(&["a", "b"])),
            ("{0.0: 'a', 1.0: 'b'}", list(&["a", "b"])),
            ("{'a': 0, 'b': 1}", list(&["a", "b"])),
            ("[person, car]", list(&["person", "car"])),
            ("{0: person, 1: traffic light}", list(&["person", "traffic light"])),
            ("{0: u'a', 1: 7}", list(&["a", "7"])),
            (r#"[{"id": 1, "name": "b"}, {"id": 0, "name": "a", "supercategory": "x"}]"#, list(&["a", "b"])),
            ("0: person\n1: 'traffic light'\n", list(&["person", "traffic light"])),
            ("names:\n  - person  # walks\n  - car\n", list(&["person", "car"])),
            ("names: [person, car]", list(&["person", "car"])),
            (
                r#"{"0": "Fu\u00dfg\u00e4nger", "1": "\u81ea\u8ee2\u8eca", "2": "\ud83d\ude97"}"#,
                list(&["Fußgänger", "自転車", "🚗"]),
            ),
            (
                r"{0: 'traffic\xa0light', 1: 'b\tc', 2: 'd\ne', 3: '\U0001f697\101'}",
                list(&["traffic\u{a0}light", "b\tc", "d\ne", "🚗A"]),
            ),
            ("{}", None),
            ("{0: 'a'", None),
            ("{0 'a'}", None),
            ("{99999999999999999999999: 'a'}", None),
            ("{4000000000: 'a'}", None),
            ("{-1: 'a'}", None),
            ("person", None),
            ("['a'] x", None),
            ("", None),
        ] {
            assert_eq!(parsed(text), names, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parsed(&deep), None);
    }

    #[test]
    fn ids_find_their_classes() {
        let names = |text: &str, classes: usize| Names::of_metadata(text).unwrap().for_classes(classes);
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names("{0: 'a', 2: 'b'}", 3), list(&["a", "class_1", "b"]));
        assert_eq!(names("{0: 'a', 2: 'b'}", 2), list(&["a", "b"]));
        assert_eq!(names("{1: 'a', 2: 'b', 3: 'c'}", 3), list(&["a", "b", "c"]));
        // four outputs for ids from 1 to 3: the first is that of the background
        assert_eq!(names("{1: 'a', 2: 'b', 3: 'c'}", 4), list(&["class_0", "a", "b", "c"]));
        assert_eq!(names("{1: 'a', 3: 'c'}", 3), list(&["a", "class_2", "c"]));
        assert_eq!(names("['a', 'b']", 3), None);
        assert_eq!(Names::of_metadata("{1: 'a', 2: 'b'}").unwrap().counts(), [2, 3]);
        assert_eq!(Names::of_metadata("{0: 'a', 2: 'b'}").unwrap().counts(), [3, 2]);
    }

    #[test]
    fn lines_without_blanks() {
        assert_eq!(of_lines("red\r\n\n  \nlight green"), ["red", "light green"]);
    }
}
