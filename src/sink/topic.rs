//! Names of MQTT topics: what may be published to.

/// Longest topic, bytes. MQTT allows 65 535; brokers of clouds end at 256 and less.
pub const MAX_TOPIC_BYTES: usize = 512;

/// Why a text is no topic that can be published to; `None`: it is one. Wildcards would be a breach of the
/// protocol, for which brokers end the connection of all pipelines; control characters and those that steer
/// the direction of writing hide from people what they read; `$` begins the topics of the broker itself.
pub fn fault(topic: &str) -> Option<&'static str> {
    match topic {
        "" => Some("is empty"),
        topic if topic.len() > MAX_TOPIC_BYTES => Some("is longer than 512 bytes"),
        topic if topic.contains(['+', '#']) => {
            Some("holds a wildcard (+ or #), which only subscriptions may")
        }
        topic if topic.starts_with('$') => Some("begins with $, as the broker's own topics do"),
        topic if topic.contains(is_unseen) => Some("holds a character that cannot be seen"),
        topic if topic.split('/').any(str::is_empty) => {
            Some("has an empty level (a / at its beginning or end, or two in a row)")
        }
        _ => None,
    }
}

/// It is a control character, steers the direction of writing, or cannot be seen at all.
pub fn is_unseen(c: char) -> bool {
    const UNSEEN: [std::ops::RangeInclusive<char>; 6] = [
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{2069}',
        '\u{feff}'..='\u{feff}',
        '\u{fff0}'..='\u{ffff}',
        '\u{e0000}'..='\u{e0fff}',
    ];
    c.is_control() || UNSEEN.iter().any(|range| range.contains(&c))
}

/// A level of a topic made of any text: what has no place in one becomes `_`.
pub fn level(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = text.chars().take(64).map(|c| if is_plain(c) { c } else { '_' }).collect();
    if plain.is_empty() { "_".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_published_to_is_a_topic() {
        for topic in ["a", "weir/hall 7/detections", "werk/Köln/kamera-1", &"a".repeat(512)] {
            assert_eq!(fault(topic), None, "{topic}");
        }
        for topic in [
            "",
            "a/+",
            "#",
            "a#b",
            "$SYS/x",
            "$share/g/a",
            "/a",
            "a/",
            "a//b",
            "a\nb",
            "a\0",
            "a\u{202e}b",
            "a\u{7f}",
            "\u{feff}a",
        ] {
            assert!(fault(topic).is_some(), "{topic:?}");
        }
        assert!(fault(&"a".repeat(513)).is_some());
    }

    #[test]
    fn any_text_becomes_a_level() {
        assert_eq!(level("cam\u{202e} 1/+#$\n"), "cam__1_____");
        assert_eq!(level(""), "_");
        assert_eq!(fault(&level("/")), None);
    }
}
