//! A small reader that behaves like Go's `encoding/json` into Ollama's request structs: fields in any case and with two
//! letters folded, the last one wins, `null` changes nothing, two `options` merge, bytes behind the object are ignored,
//! invalid UTF-8 and lone surrogates become U+FFFD.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

pub(crate) struct Go<'b> {
    pub(crate) bytes: &'b [u8],
    pub(crate) at: usize,
}

impl Go<'_> {
    fn blanks(&mut self) {
        while self.bytes.get(self.at).is_some_and(|b| b" \t\r\n".contains(b)) {
            self.at += 1;
        }
    }

    fn eat(&mut self, text: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(text).then(|| self.at += text.len())
    }

    pub(crate) fn value(&mut self) -> Option<Json> {
        self.blanks();
        match self.bytes.get(self.at)? {
            b'n' => self.eat(b"null").map(|()| Json::Null),
            b't' => self.eat(b"true").map(|()| Json::Bool(true)),
            b'f' => self.eat(b"false").map(|()| Json::Bool(false)),
            b'"' => self.text().map(Json::Text),
            b'[' => self.list(),
            b'{' => self.object(),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Option<Json> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|b| !b"+-.0123456789eE".contains(b)).unwrap_or(rest.len());
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        // The grammar is another library's; its range is not Go's, so only its shape is asked.
        serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
        self.at += end;
        Some(Json::Number(text.to_owned()))
    }

    fn text(&mut self) -> Option<String> {
        self.eat(b"\"")?;
        let mut units = Vec::new();
        let mut out = String::new();
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if byte == b'\\' {
                let kind = *self.bytes.get(self.at)?;
                self.at += 1;
                if kind == b'u' {
                    let digits = self.bytes.get(self.at..self.at + 4)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    units.push(u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                    self.at += 4;
                    continue;
                }
                out.push_str(&String::from_utf16_lossy(&std::mem::take(&mut units)));
                let plain = b"\"\\/bfnrt".iter().position(|b| *b == kind)?;
                out.push(['"', '\\', '/', '\u{8}', '\u{c}', '\n', '\r', '\t'][plain]);
                continue;
            }
            out.push_str(&String::from_utf16_lossy(&std::mem::take(&mut units)));
            match byte {
                b'"' => return Some(out),
                0..0x20 => return None,
                _ => {
                    let start = self.at - 1;
                    while self.bytes.get(self.at).is_some_and(|b| *b >= 0x20 && !b"\"\\".contains(b)) {
                        self.at += 1;
                    }
                    out.push_str(&String::from_utf8_lossy(&self.bytes[start..self.at]));
                }
            }
        }
    }

    fn list(&mut self) -> Option<Json> {
        self.eat(b"[")?;
        let mut items = Vec::new();
        self.blanks();
        if self.eat(b"]").is_some() {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            self.blanks();
            if self.eat(b"]").is_some() {
                return Some(Json::List(items));
            }
            self.eat(b",")?;
        }
    }

    fn object(&mut self) -> Option<Json> {
        self.eat(b"{")?;
        let mut fields = Vec::new();
        self.blanks();
        if self.eat(b"}").is_some() {
            return Some(Json::Object(fields));
        }
        loop {
            self.blanks();
            let name = self.text()?;
            self.blanks();
            self.eat(b":")?;
            fields.push((name, self.value()?));
            self.blanks();
            if self.eat(b"}").is_some() {
                return Some(Json::Object(fields));
            }
            self.eat(b",")?;
        }
    }
}

/// What a Go server sees in a body.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) model: String,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) from: String,
    pub(crate) stream: Option<bool>,
    pub(crate) options: BTreeMap<String, String>,
    /// The fields that policies look at, and whether a tool is the server's own.
    pub(crate) insecure: bool,
    pub(crate) verbose: bool,
    pub(crate) rendering: bool,
    pub(crate) remote_host: String,
    pub(crate) server_tool: bool,
}

fn fold(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// Whether a list of tools holds one of the server's own; fields of tools are a struct's, the last one wins.
fn has_server_tool(tools: &Json) -> bool {
    let Json::List(tools) = tools else { return false };
    tools.iter().any(|tool| {
        let Json::Object(fields) = tool else { return false };
        let last =
            |wanted: &str| fields.iter().rev().find(|(name, _)| fold(name) == wanted).map(|(_, value)| value);
        let is_own = matches!(last("type"), Some(Json::Text(kind)) if kind.starts_with("web_search"));
        is_own || last("tools").is_some_and(has_server_tool)
    })
}

pub(crate) fn reads(body: &[u8]) -> Option<Seen> {
    let Json::Object(fields) = (Go { bytes: body, at: 0 }).value()? else { return None };
    let mut seen = Seen::default();
    for (name, value) in fields {
        let folded = fold(&name);
        let text = match folded.as_str() {
            "model" => &mut seen.model,
            "name" => &mut seen.name,
            "source" => &mut seen.source,
            "destination" => &mut seen.destination,
            "from" => &mut seen.from,
            "remote_host" => &mut seen.remote_host,
            "insecure" | "verbose" | "_debug_render_only" => {
                let switch = match folded.as_str() {
                    "insecure" => &mut seen.insecure,
                    "verbose" => &mut seen.verbose,
                    _ => &mut seen.rendering,
                };
                if let Json::Bool(yes) = value {
                    *switch = yes;
                }
                continue;
            }
            "tools" => {
                seen.server_tool = has_server_tool(&value);
                continue;
            }
            "stream" => {
                match value {
                    Json::Bool(yes) => seen.stream = Some(yes),
                    _ => seen.stream = None,
                }
                continue;
            }
            "options" => {
                if let Json::Object(options) = value {
                    seen.options
                        .extend(options.into_iter().map(|(name, value)| (name, format!("{value:?}"))));
                }
                continue;
            }
            _ => continue,
        };
        if let Json::Text(value) = value {
            *text = value;
        }
    }
    Some(seen)
}
