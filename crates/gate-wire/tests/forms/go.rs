//! A reader of forms as lenient as Go's `mime/multipart` and `mime.ParseMediaType`: preambles, blanks behind boundaries,
//! bare LF, parameters in every encoding, `quoted-printable`; a part with a file name is no value, the first value wins.

/// What `FormValue("model")` gives: empty where there is none, `None` where the form cannot be read.
pub(crate) fn model(content_type: &[u8], body: &[u8]) -> Option<String> {
    let (kind, parameters) = media_type(content_type)?;
    if kind != "multipart/form-data" {
        return None;
    }
    let boundary = parameters.into_iter().find(|(name, _)| name == "boundary")?.1;
    let mut model = None;
    for (head, data) in parts(body, &[b"--", boundary.as_slice()].concat())? {
        let value = |wanted: &str| {
            let field = head.iter().find(|(name, _)| name == wanted);
            field.map(|(_, value)| value.clone())
        };
        let Some((kind, parameters)) = value("content-disposition").and_then(|value| media_type(&value))
        else {
            continue;
        };
        let of =
            |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        if kind != "form-data" || of("filename").is_some_and(|name| !name.is_empty()) {
            continue;
        }
        let is_quoted = value("content-transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case(b"quoted-printable"));
        let data = if is_quoted { unquoted_printable(&data) } else { data };
        if of("name").as_deref() == Some(b"model") && model.is_none() {
            model = Some(String::from_utf8_lossy(&data).into_owned());
        }
    }
    Some(model.unwrap_or_default())
}

type Head = Vec<(String, Vec<u8>)>;

/// Go goes from line to line: one that begins with the delimiter ends a part, blanks behind it do not count.
fn parts(body: &[u8], delimiter: &[u8]) -> Option<Vec<(Head, Vec<u8>)>> {
    let mut parts = Vec::new();
    let mut current: Option<Vec<u8>> = None;
    let mut rest = body;
    loop {
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (line, more) = rest.split_at(end);
        rest = more;
        if let Some(behind) = line.strip_prefix(delimiter) {
            let is_last = behind.starts_with(b"--");
            let is_next = behind.trim_ascii().is_empty() && behind.ends_with(b"\n");
            if is_last || is_next {
                if let Some(text) = current.take() {
                    parts.push(part(&text)?);
                }
                if is_last {
                    return Some(parts);
                }
                current = Some(Vec::new());
                continue;
            }
        }
        if let Some(text) = &mut current {
            text.extend_from_slice(line);
        }
    }
}

fn part(text: &[u8]) -> Option<(Head, Vec<u8>)> {
    // The line end before the delimiter belongs to it.
    let text = text.strip_suffix(b"\r\n").or_else(|| text.strip_suffix(b"\n")).unwrap_or(text);
    let mut head: Head = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, more) = rest.split_at(end);
        rest = &more[1..];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Some((head, rest.to_vec()));
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            head.last_mut()?.1.extend_from_slice(line);
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        head.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
}

/// A media type and its parameters, the encoded ones decoded.
fn media_type(text: &[u8]) -> Option<(String, Head)> {
    let end = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
    let kind = String::from_utf8_lossy(&text[..end]).trim().to_ascii_lowercase();
    let mut rest = &text[end..];
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let mut pieces = Vec::new();
    while !rest.trim_ascii().is_empty() {
        rest = rest.trim_ascii_start().strip_prefix(b";")?.trim_ascii_start();
        if rest.is_empty() {
            break;
        }
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let name = String::from_utf8_lossy(&rest[..equals]).trim().to_ascii_lowercase();
        rest = rest[equals + 1..].trim_ascii_start();
        let mut value = Vec::new();
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            let mut at = 0;
            loop {
                match *quoted.get(at)? {
                    b'"' => break,
                    b'\\' if matches!(quoted.get(at + 1), Some(b'"' | b'\\')) => {
                        value.push(quoted[at + 1]);
                        at += 2;
                    }
                    byte => {
                        value.push(byte);
                        at += 1;
                    }
                }
            }
            rest = &quoted[at + 1..];
        } else {
            let end = rest.iter().position(|byte| b"; \t".contains(byte)).unwrap_or(rest.len());
            value.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        match name.split_once('*') {
            Some((base, "")) => found.push((base.to_owned(), extended(&value))),
            Some((base, _number)) => pieces.push((base.to_owned(), value)),
            None if found.iter().any(|(other, _)| *other == name) => return None,
            None => found.push((name, value)),
        }
    }
    for (base, value) in pieces {
        match found.iter_mut().find(|(name, _)| *name == base) {
            Some((_, whole)) => whole.extend_from_slice(&value),
            None => found.push((base, value)),
        }
    }
    Some((kind, found))
}

/// `utf-8''%6dodel`.
fn extended(value: &[u8]) -> Vec<u8> {
    let text = value.splitn(3, |byte| *byte == b'\'').last().unwrap_or_default();
    escaped(text, b'%')
}

fn unquoted_printable(data: &[u8]) -> Vec<u8> {
    escaped(data, b'=')
}

fn escaped(text: &[u8], sign: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *byte == sign) {
            Some(escaped) => {
                out.push(escaped);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}
