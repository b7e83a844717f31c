//! YAML text as a tree that knows where everything stands, and a serde deserializer over it that survives faults.
//!
//! `serde_yaml` stops at the first fault. Here a node that does not fit is reported, marked, and read as absent on the
//! next pass; passes go on until the types are satisfied. One file with five faults gives five positions.

use std::{cell::Cell, collections::HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use crate::fault::{At, Fault, Faults, excerpt};

/// The longest text that is read; shipped spaces have a few kilobytes.
pub(crate) const MOST_BYTES: usize = 256 * 1024;
/// The deepest nesting that is read; the schema needs seven levels.
const MOST_DEPTH: usize = 24;

/// One YAML value and its place.
pub(crate) struct Node {
    at: At,
    content: Content,
    faulty: Cell<bool>,
}

enum Content {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// A field as written: where it stands, and its value unless it is faulty; absent by default.
///
/// Deserialized from a [`Node`] only, which recognizes it by its name.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(rename = "$field")]
pub(crate) struct Field<T> {
    line: usize,
    column: usize,
    value: Option<T>,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self { line: 0, column: 0, value: None }
    }
}

impl<T> Field<T> {
    /// The value, unless the field is absent or was found faulty.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Where the value starts; `None` for an absent field.
    pub(crate) fn at(&self) -> Option<At> {
        (self.line > 0).then_some(At { line: self.line, column: self.column })
    }

    /// The value, if the field is there and sound, and where it starts.
    pub(crate) fn located(&self) -> Option<(&T, At)> {
        Some((self.get()?, self.at()?))
    }

    /// The value of a field that must be there: its absence is a fault of the mapping at `owner`.
    pub(crate) fn required(&self, name: &str, owner: At, faults: &mut Faults) -> Option<&T> {
        if self.at().is_none() {
            faults.add(owner, format!("no `{name}`"), format!("`{name}` is required"));
        }
        self.get()
    }
}

/// Parses `text` into a tree; syntax stops at its first fault, duplicate keys do not.
pub(crate) fn parse(text: &str, faults: &mut Faults) -> Option<Node> {
    let nothing =
        |found: &str| Fault { at: None, found: found.into(), accepted: "expected a YAML mapping".into() };
    if text.len() > MOST_BYTES {
        faults.push(too_long());
        return None;
    }
    if let Some((at, c)) = control_character(text) {
        let found = format!("control character U+{:04X}", c as u32);
        faults.add(at, found, "expected text; tabs and line breaks are the only control characters");
        return None;
    }
    match Tree::of(text, faults) {
        Ok(None) => {
            faults.push(nothing("empty file"));
            None
        }
        Ok(tree) => tree,
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

/// Where the key at `path` (`search.weights.lr`) stands in a YAML text: that key's place, or that of the last key on the
/// way to it that is there. `None` if not even the first is, or the text is no YAML.
///
/// ```
/// use search_space::{At, locate};
///
/// let text = "name: toy\nsearch:\n  weights: {lr: 0.1}\n";
/// assert_eq!(locate(text, "search.weights.lr"), Some(At { line: 3, column: 13 }));
/// assert_eq!(locate(text, "search.weights.momentum"), Some(At { line: 3, column: 3 }));
/// assert_eq!(locate(text, "stages"), None);
/// ```
#[must_use]
pub fn locate(text: &str, path: &str) -> Option<At> {
    let mut node = &parse(text, &mut Faults::default())?;
    let mut found = None;
    for key in path.split('.') {
        let Content::Map(entries) = &node.content else { break };
        let entry =
            entries.iter().find(|(name, _)| matches!(&name.content, Content::Text(name) if name == key));
        let Some((name, value)) = entry else { break };
        (found, node) = (Some(name.at), value);
    }
    found
}

/// The fault of a text above [`MOST_BYTES`].
pub(crate) fn too_long() -> Fault {
    let accepted = format!("expected at most {} KiB", MOST_BYTES / 1024);
    Fault { at: None, found: "file too long for a space".into(), accepted }
}

/// The fault of bytes that are not UTF-8, at the first bad one.
pub(crate) fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> Fault {
    let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
    let found = format!("byte 0x{:02X}, not UTF-8", bytes[error.valid_up_to()]);
    Fault { at: Some(end_of(&before)), found, accepted: "expected UTF-8 text".into() }
}

/// Deserializes `T`, pass by pass, every fault recorded; `None` if nothing is left of it.
pub(crate) fn read<T: DeserializeOwned>(root: &Node, faults: &mut Faults) -> Option<T> {
    while !faults.is_full() {
        match T::deserialize(root) {
            Ok(value) => return Some(value),
            Err(fault) if fault.found.is_empty() => {}
            Err(fault) => faults.push(fault),
        }
        if root.faulty.get() {
            return None;
        }
    }
    None
}

fn control_character(text: &str) -> Option<(At, char)> {
    let bad = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    text.char_indices().find(|(_, c)| bad(*c)).map(|(index, c)| (end_of(&text[..index]), c))
}

/// The place right after `text`.
fn end_of(text: &str) -> At {
    let last = text.rsplit('\n').next().unwrap_or_default();
    At { line: text.matches('\n').count() + 1, column: last.chars().count() + 1 }
}

/// The silent fault of whatever cannot stand without a node that was found faulty before.
fn consequence() -> Fault {
    Fault { at: None, found: String::new(), accepted: String::new() }
}

/// Builds the tree from parser events; depth is bounded, so recursion is.
struct Tree<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    faults: &'a mut Faults,
}

impl<'a> Tree<'a> {
    fn of(text: &'a str, faults: &'a mut Faults) -> Result<Option<Node>, Fault> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut tree = Self { parser: Parser::new_from_str(text), faults };
        let mut root = None;
        loop {
            match tree.next()? {
                (Event::StreamEnd, _) => return Ok(root),
                (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing, _) => {}
                (_, at) if root.is_some() => {
                    return Err(fault(at, "a second document", "expected one document per file"));
                }
                (event, at) => root = Some(tree.node(event, at, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, At), Fault> {
        match self.parser.next_event() {
            Some(Ok((event, Span { start, .. }))) => {
                Ok((event, At { line: start.line(), column: start.col() + 1 }))
            }
            Some(Err(error)) => {
                let at = At { line: error.marker().line(), column: error.marker().col() + 1 };
                match error.info() {
                    "recursion limit exceeded" => Err(too_deep(at)),
                    info => Err(fault(at, &format!("not YAML: {}", excerpt(info)), "expected valid YAML")),
                }
            }
            None => Ok((Event::StreamEnd, At { line: 1, column: 1 })),
        }
    }

    fn node(&mut self, event: Event<'a>, at: At, depth: usize) -> Result<Node, Fault> {
        if depth > MOST_DEPTH {
            return Err(too_deep(at));
        }
        let content = match event {
            Event::Alias(_) => {
                return Err(fault(at, "an alias", "write the value out; aliases are not read"));
            }
            Event::Scalar(.., anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor > 0 =>
            {
                return Err(fault(at, "an anchor", "write the value out; anchors are not read"));
            }
            Event::Scalar(.., Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return Err(fault(at, "a tag", "write the plain value; tags are not read"));
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) => plain_scalar(&text),
            Event::Scalar(text, ..) => Content::Text(text.into_owned()),
            Event::SequenceStart(..) => self.list(depth)?,
            _ => self.map(depth)?,
        };
        Ok(Node { at, content, faulty: Cell::new(false) })
    }

    fn list(&mut self, depth: usize) -> Result<Content, Fault> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Content::List(elements)),
                (event, at) => elements.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Content, Fault> {
        let (mut entries, mut keys) = (Vec::new(), HashSet::new());
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Content::Map(entries)),
                (event, at) => self.node(event, at, depth + 1)?,
            };
            let (event, at) = self.next()?;
            let value = self.node(event, at, depth + 1)?;
            if let Content::Text(name) = &key.content
                && !keys.insert(name.clone())
            {
                self.faults.add(key.at, format!("field `{}` given twice", excerpt(name)), "expected it once");
                continue;
            }
            entries.push((key, value));
        }
    }
}

fn too_deep(at: At) -> Fault {
    fault(at, "nested too deeply", &format!("expected at most {MOST_DEPTH} levels"))
}

fn fault(at: At, found: &str, accepted: &str) -> Fault {
    Fault { at: Some(at), found: found.to_owned(), accepted: accepted.to_owned() }
}

/// YAML 1.2's core schema, except that octal and hexadecimal numbers are text.
fn plain_scalar(text: &str) -> Content {
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Bool(true),
        "false" | "False" | "FALSE" => Content::Bool(false),
        ".inf" | "+.inf" => Content::Float(f64::INFINITY),
        "-.inf" => Content::Float(f64::NEG_INFINITY),
        ".nan" => Content::Float(f64::NAN),
        _ if !numeric || text.ends_with(|c: char| c.is_alphabetic()) => Content::Text(text.to_owned()),
        _ => match (text.parse(), text.parse()) {
            (Ok(number), _) => Content::Int(number),
            (_, Ok(number)) => Content::Float(number),
            _ => Content::Text(text.to_owned()),
        },
    }
}

impl Node {
    /// The place of the value.
    pub(crate) fn at(&self) -> At {
        self.at
    }

    /// Reads the node, unless it was found faulty; a fault without a place gets this one, and marks the node.
    fn attempt<T>(&self, read: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        if self.faulty.get() {
            return Err(consequence());
        }
        read().map_err(|fault| match fault.at {
            Some(_) => fault,
            None => {
                self.faulty.set(true);
                Fault { at: Some(self.at), ..fault }
            }
        })
    }

    fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.content {
            Content::Null => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Int(number) if *number >= 0 => visitor.visit_u64(number.unsigned_abs()),
            Content::Int(number) => visitor.visit_i64(*number),
            Content::Float(number) => visitor.visit_f64(*number),
            Content::Text(text) => visitor.visit_str(text),
            Content::List(elements) => visitor.visit_seq(Elements(elements.iter())),
            Content::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
        }
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match &self.content {
            Content::Null => Unexpected::Unit,
            Content::Bool(value) => Unexpected::Bool(*value),
            Content::Int(number) => Unexpected::Signed(*number),
            Content::Float(number) => Unexpected::Float(*number),
            Content::Text(text) => Unexpected::Str(text),
            Content::List(_) => Unexpected::Seq,
            Content::Map(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for &Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.attempt(|| self.visit(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.content {
            Content::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == "$field" {
            return visitor.visit_seq(Parts { node: self, next: 0 });
        }
        self.attempt(|| match self.content {
            Content::Map(_) => self.visit(visitor),
            _ => Err(de::Error::invalid_type(self.unexpected(), &visitor)), // a derived struct takes lists, too
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.attempt(|| match &self.content {
            Content::Text(name) => {
                visitor.visit_enum(IntoDeserializer::<Fault>::into_deserializer(name.as_str()))
            }
            _ => Err(de::Error::invalid_type(self.unexpected(), &"text")),
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// The three parts of a [`Field`]: line, column, value; a faulty node has no value.
struct Parts<'a> {
    node: &'a Node,
    next: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.next += 1;
        match self.next {
            1 => seed.deserialize(self.node.at.line.into_deserializer()).map(Some),
            2 => seed.deserialize(self.node.at.column.into_deserializer()).map(Some),
            3 if self.node.faulty.get() => seed.deserialize(().into_deserializer()).map(Some),
            3 => seed.deserialize(Given(self.node)).map(Some),
            _ => Ok(None),
        }
    }
}

/// A value that is there, even where it is null: `Option` is the mark of a faulty one.
struct Given<'a>(&'a Node);

impl<'de> Deserializer<'de> for Given<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self.0)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Elements<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|node| seed.deserialize(node)).transpose()
    }
}

/// The entries of a mapping, those with a faulty key left out.
struct Entries<'a> {
    rest: std::slice::Iter<'a, (Node, Node)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.find(|(key, _)| !key.faulty.get()) else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(self.value.take().expect("serde asks for a value after its key"))
    }
}
