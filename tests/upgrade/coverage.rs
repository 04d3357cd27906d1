//! Which fields and variants of the model the golden documents show.
//!
//! A document is read here by its own `Deserialize`, from a reader that writes down what it is asked for: serde
//! names every field of a struct and every variant of an enum that it could read. What no golden document has is
//! therefore known without a list that somebody would have to keep.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Error, Value};

/// A struct or an enum, by its name and by its fields or variants.
type Shape = (String, &'static [&'static str]);

/// What was seen of every shape that was reached.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    fields: RefCell<BTreeMap<Shape, BTreeSet<String>>>,
    variants: RefCell<BTreeMap<Shape, BTreeSet<String>>>,
}

impl Coverage {
    /// Reads `value` as a `T` and writes down what it shows of `T` and of everything in it.
    pub(crate) fn read<'de, T: Deserialize<'de>>(&'de self, value: &'de Value) -> Result<T, Error> {
        T::deserialize(Watched { value, coverage: self })
    }

    /// What no document that was read has.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (what, shapes) in [("field", &self.fields), ("variant", &self.variants)] {
            for ((name, all), seen) in shapes.borrow().iter() {
                let unseen = all.iter().filter(|one| !seen.contains(**one));
                missing.extend(unseen.map(|one| format!("the {what} `{one}` of `{name}`")));
            }
        }
        missing
    }
}

/// `null`, `[]` and `{}` show nothing of what a field can hold.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[derive(Clone, Copy)]
struct Watched<'de> {
    value: &'de Value,
    coverage: &'de Coverage,
}

impl<'de> Watched<'de> {
    fn within(self, value: &'de Value) -> Self {
        Self { value, coverage: self.coverage }
    }

    fn note(self, name: String, fields: &'static [&'static str]) {
        if let Value::Object(values) = self.value {
            let set = values.iter().filter(|(_, value)| !is_empty(value)).map(|(field, _)| field.clone());
            self.coverage.fields.borrow_mut().entry((name, fields)).or_default().extend(set);
        }
    }
}

impl<'de> Deserializer<'de> for Watched<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(values) => visitor.visit_seq(Elements { values: values.iter(), all: self }),
            Value::Object(values) => {
                visitor.visit_map(Fields { entries: values.iter(), value: None, all: self })
            }
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                plain.deserialize_any(visitor)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(name.to_owned(), fields);
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (variant, content) = match self.value {
            Value::String(variant) => (variant, None),
            Value::Object(values) if values.len() == 1 => {
                let (variant, content) = values.iter().next().expect("it has one");
                (variant, Some(content))
            }
            other
            @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                return Err(Error::custom(format!("{other} is no variant of {name}")));
            }
        };
        self.coverage
            .variants
            .borrow_mut()
            .entry((name.to_owned(), variants))
            .or_default()
            .insert(variant.clone());
        let content = content.map(|content| self.within(content));
        visitor.visit_enum(Variant { name, variant, content })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Elements<'de> {
    values: std::slice::Iter<'de, Value>,
    all: Watched<'de>,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.values.next().map(|value| seed.deserialize(self.all.within(value))).transpose()
    }
}

struct Fields<'de> {
    entries: serde_json::map::Iter<'de>,
    value: Option<&'de Value>,
    all: Watched<'de>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(StrDeserializer::<Error>::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().expect("serde asks for a key first");
        seed.deserialize(self.all.within(value))
    }
}

struct Variant<'de> {
    /// Of its enum.
    name: &'static str,
    variant: &'de str,
    content: Option<Watched<'de>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((seed.deserialize(StrDeserializer::<Error>::new(self.variant))?, self))
    }
}

impl<'de> Variant<'de> {
    fn content(self) -> Result<Watched<'de>, Error> {
        self.content.ok_or_else(|| Error::custom(format!("{} has no content", self.variant)))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Error::custom(format!("{} has content", self.variant))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        self.content()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let name = format!("{}::{}", self.name, self.variant);
        let content = self.content()?;
        content.note(name, fields);
        content.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Host {
        name: String,
        address: Option<String>,
        state: State,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code, reason = "only read")]
    enum State {
        Up,
        Down { since: Option<u32> },
    }

    #[test]
    fn what_no_document_shows_is_named() {
        let documents = [
            serde_json::json!({ "name": "a", "address": null, "state": "up" }),
            serde_json::json!({ "name": "a", "address": "b", "state": { "down": { "since": 1 } } }),
        ];
        let coverage = Coverage::default();
        let _: Host = coverage.read(&documents[0]).unwrap();
        assert_eq!(coverage.missing(), ["the field `address` of `Host`", "the variant `down` of `State`"]);
        let host: Host = coverage.read(&documents[1]).unwrap();
        assert_eq!(host.address.as_deref(), Some("b"));
        assert!(coverage.missing().is_empty(), "{:?}", coverage.missing());
    }
}
