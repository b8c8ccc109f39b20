//! YAML as far as compose files need it: maps, lists, texts and comments. Every text that could be read as anything else is quoted.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Text(String),
    Switch(bool),
    Number(u32),
    /// Without a value: what has a name and nothing else to say.
    Empty,
    List(Vec<Node>),
    /// A list in one line, for commands.
    Words(Vec<String>),
    Map(Map),
}

/// Keys in the order that they were put in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Map(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    comment: Vec<String>,
    key: String,
    value: Node,
}

impl Map {
    /// One of a single key.
    pub(super) fn of(key: &str, value: impl Into<Node>) -> Self {
        let mut map = Map::default();
        map.put(key, value);
        map
    }

    /// Puts a value in, if there is anything in it.
    pub(super) fn put(&mut self, key: &str, value: impl Into<Node>) -> &mut Self {
        self.put_with(&[], key, value)
    }

    /// As [`Map::put`], with lines of comment before it.
    pub(super) fn put_with(&mut self, comment: &[&str], key: &str, value: impl Into<Node>) -> &mut Self {
        let value = value.into();
        if !value.is_nothing() {
            let comment = comment.iter().map(|line| (*line).to_owned()).collect();
            self.0.push(Entry { comment, key: key.to_owned(), value });
        }
        self
    }

    /// The file.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for (place, entry) in self.0.iter().enumerate() {
            if place > 0 {
                text.push('\n');
            }
            entry.write(&mut text, 0);
        }
        text
    }

    fn write(&self, text: &mut String, depth: usize) {
        for (place, entry) in self.0.iter().enumerate() {
            let is_long = matches!(&entry.value, Node::Map(map) if map.0.len() > 2);
            if depth == 1 && place > 0 && is_long {
                text.push('\n');
            }
            entry.write(text, depth);
        }
    }
}

impl Entry {
    fn write(&self, text: &mut String, depth: usize) {
        let margin = "  ".repeat(depth);
        for line in &self.comment {
            text.push_str(&format!("{margin}# {line}\n"));
        }
        text.push_str(&format!("{margin}{}:", scalar(&self.key)));
        self.value.write(text, depth);
    }
}

impl Node {
    fn is_nothing(&self) -> bool {
        match self {
            Node::List(items) => items.is_empty(),
            Node::Words(words) => words.is_empty(),
            Node::Map(map) => map.0.is_empty(),
            Node::Text(_) | Node::Switch(_) | Node::Number(_) | Node::Empty => false,
        }
    }

    /// What stands behind a key of this depth.
    fn write(&self, text: &mut String, depth: usize) {
        let margin = "  ".repeat(depth + 1);
        match self {
            Node::Map(map) => {
                text.push('\n');
                map.write(text, depth + 1);
            }
            Node::List(items) => {
                text.push('\n');
                for item in items {
                    text.push_str(&format!("{margin}-"));
                    match item {
                        Node::Map(map) => {
                            // The first key stands behind the dash, the others below it.
                            let mut inner = String::new();
                            map.write(&mut inner, depth + 2);
                            text.push_str(&format!(" {}", inner.trim_start()));
                        }
                        other => other.write(text, depth + 1),
                    }
                }
            }
            Node::Words(words) => {
                let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                text.push_str(&format!(" [{}]\n", words.join(", ")));
            }
            Node::Text(word) => {
                text.push_str(&format!(" {}\n", scalar(word)));
            }
            Node::Number(number) => {
                text.push_str(&format!(" {number}\n"));
            }
            Node::Switch(is_on) => {
                text.push_str(&format!(" {is_on}\n"));
            }
            Node::Empty => text.push_str(" {}\n"),
        }
    }
}

/// A text that reads as itself: plain where that is beyond doubt.
fn scalar(text: &str) -> String {
    let begins_plain = text.starts_with(|sign: char| sign.is_ascii_alphabetic() || sign == '/');
    let is_plain = text.chars().all(|sign| sign.is_ascii_alphanumeric() || "_-./".contains(sign));
    let is_word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if begins_plain && is_plain && !is_word.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for sign in text.chars() {
        match sign {
            '"' | '\\' => out.extend(['\\', sign]),
            sign if sign.is_control() => {
                out.push_str(&format!("\\u{:04X}", u32::from(sign)));
            }
            sign => out.push(sign),
        }
    }
    out.push('"');
    out
}

impl From<Map> for Node {
    fn from(map: Map) -> Self {
        Node::Map(map)
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Node::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Node::Text(text)
    }
}

impl From<bool> for Node {
    fn from(is_on: bool) -> Self {
        Node::Switch(is_on)
    }
}

impl From<Vec<String>> for Node {
    fn from(items: Vec<String>) -> Self {
        Node::List(items.into_iter().map(Node::Text).collect())
    }
}

impl From<&[&str]> for Node {
    fn from(items: &[&str]) -> Self {
        Node::List(items.iter().map(|item| Node::Text((*item).to_owned())).collect())
    }
}

/// A list in one line.
pub(super) fn words(items: &[&str]) -> Node {
    Node::Words(items.iter().map(|item| (*item).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_would_read_as_something_else_is_quoted() {
        for (text, shown) in [
            ("herdgate", "herdgate"),
            ("/data", "/data"),
            ("no", "\"no\""),
            ("True", "\"True\""),
            ("7860:7860", "\"7860:7860\""),
            ("0755", "\"0755\""),
            ("1.5", "\"1.5\""),
            (".5", "\".5\""),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a: b # c", "\"a: b # c\""),
            ("*x", "\"*x\""),
            ("a\"\\b", "\"a\\\"\\\\b\""),
            ("a\nb", "\"a\\u000Ab\""),
            ("${A:-b}", "\"${A:-b}\""),
        ] {
            assert_eq!(scalar(text), shown);
        }
    }

    #[test]
    fn maps_lists_and_comments_stand_where_they_belong() {
        let mut device = Map::default();
        device.put("driver", "nvidia").put("capabilities", words(&["gpu"]));
        let mut service = Map::default();
        service
            .put("image", "a/b")
            .put_with(&["Why."], "read_only", true)
            .put("ports", &["1:2"][..])
            .put("nothing", Vec::<String>::new())
            .put("devices", Node::List(vec![device.into(), Node::Text("x".into())]));
        let mut file = Map::default();
        let mut services = Map::default();
        services.put("one", service);
        file.put("services", services).put("volumes", {
            let mut volumes = Map::default();
            volumes.put("v", Node::Empty);
            volumes
        });
        assert_eq!(
            file.render(),
            "services:\n  one:\n    image: a/b\n    # Why.\n    read_only: true\n    ports:\n      - \"1:2\"\n    devices:\n      \
             - driver: nvidia\n        capabilities: [\"gpu\"]\n      - x\n\nvolumes:\n  v: {}\n"
        );
    }
}
