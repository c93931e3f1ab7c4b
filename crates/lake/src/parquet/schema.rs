//! Columns: what of an event becomes which, as data.

use std::sync::Arc;

use inborn_telemetry::ClassUid;
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::errors::Result;
use parquet::schema::types::{Type, TypePtr};

use super::classes;

/// What an attribute of OCSF is.
pub(crate) enum Kind {
    Text,
    /// `integer_t`.
    Int,
    /// `long_t` and `timestamp_t`.
    Long,
    Double,
    Bool,
    Group(&'static [Field]),
    List(&'static Kind),
}

/// An attribute with its name.
pub(crate) struct Field(pub(crate) &'static str, pub(crate) Kind);

/// The attributes of one class as a tree whose leaves are numbered like the columns of Parquet.
pub(crate) struct Schema {
    /// What Parquet knows of it.
    pub(crate) root: TypePtr,
    /// The attributes, in the order of the columns.
    pub(crate) fields: Members,
    /// The columns.
    pub(crate) leaves: Vec<Leaf>,
    /// How many attributes have a number.
    pub(crate) singles: usize,
}

/// An attribute, with the columns that are below it.
pub(crate) struct Node {
    pub(crate) name: Box<str>,
    pub(crate) first: usize,
    pub(crate) end: usize,
    /// Its number among all attributes, if it is below no list.
    pub(crate) single: Option<usize>,
    pub(crate) shape: Shape,
}

/// What there is below an attribute.
pub(crate) enum Shape {
    /// One column.
    Leaf(Scalar),
    Group(Members),
    /// The repetition level of a second element, and what an element is.
    List(i16, Box<Node>),
}

/// Attributes of one object.
pub(crate) struct Members {
    /// In the order of the columns.
    pub(crate) nodes: Vec<Node>,
    /// Where they are, in the order of their names, shorter ones first.
    by_name: Vec<usize>,
}

impl Members {
    fn new(nodes: Vec<Node>) -> Self {
        let mut by_name: Vec<usize> = (0..nodes.len()).collect();
        by_name.sort_by_key(|at| nodes.get(*at).map(|node| (node.name.len(), node.name.clone())));
        Self { nodes, by_name }
    }

    /// Where the attribute of this name is.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        let order = |at: &usize| {
            let known = self.nodes.get(*at).map_or("", |node| &node.name);
            known.len().cmp(&name.len()).then_with(|| known.cmp(name))
        };
        self.by_name.binary_search_by(order).ok().and_then(|place| self.by_name.get(place).copied())
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Text,
    Int,
    Long,
    Double,
    Bool,
}

/// One column.
pub(crate) struct Leaf {
    pub(crate) scalar: Scalar,
    /// Whether it is below a list.
    pub(crate) repeated: bool,
}

/// The last column of every class: what has no column, as JSON.
pub(crate) const UNMAPPED: &str = "unmapped";

impl Schema {
    /// The columns of a class.
    pub(crate) fn of(class: ClassUid) -> Result<Self> {
        let mut leaves = Vec::new();
        let mut fields = Vec::new();
        let mut types = Vec::new();
        let mut singles = 0;
        for field in classes::fields(class).iter().copied().flatten() {
            fields.push(node(field.0, &field.1, 0, &mut leaves, &mut singles));
            types.push(parquet_type(field.0, &field.1, Repetition::OPTIONAL)?);
        }
        let root = Type::group_type_builder("ocsf").with_fields(types).build()?;
        Ok(Self { root: Arc::new(root), fields: Members::new(fields), leaves, singles })
    }

    /// The columns of a file, which another version may have written.
    pub(crate) fn of_file(root: &Type) -> Self {
        let mut leaves = Vec::new();
        let fields = root.get_fields().iter().map(|field| node_of_file(field, 0, &mut leaves)).collect();
        Self { root: Arc::new(root.clone()), fields: Members::new(fields), leaves, singles: 0 }
    }
}

fn node(name: &'static str, kind: &Kind, repetition: i16, leaves: &mut Vec<Leaf>, singles: &mut usize) -> Node {
    let first = leaves.len();
    let single = (repetition == 0).then_some(*singles);
    *singles += usize::from(single.is_some());
    let mut leaf = |scalar| {
        leaves.push(Leaf { scalar, repeated: repetition > 0 });
        Shape::Leaf(scalar)
    };
    let shape = match kind {
        Kind::Text => leaf(Scalar::Text),
        Kind::Int => leaf(Scalar::Int),
        Kind::Long => leaf(Scalar::Long),
        Kind::Double => leaf(Scalar::Double),
        Kind::Bool => leaf(Scalar::Bool),
        Kind::Group(fields) => {
            let members = fields.iter().map(|field| node(field.0, &field.1, repetition, leaves, singles));
            Shape::Group(Members::new(members.collect()))
        }
        Kind::List(element) => {
            let element = node("element", element, repetition + 1, leaves, singles);
            Shape::List(repetition + 1, Box::new(element))
        }
    };
    Node { name: name.into(), first, end: leaves.len(), single, shape }
}

fn node_of_file(kind: &Type, repetition: i16, leaves: &mut Vec<Leaf>) -> Node {
    let first = leaves.len();
    // Asking a primitive type for its fields panics.
    let list = kind.is_group() && kind.get_basic_info().converted_type() == ConvertedType::LIST;
    let repeated = || kind.get_fields().first().filter(|repeated| list && repeated.is_group());
    let shape = if kind.is_primitive() {
        let scalar = match kind.get_physical_type() {
            Physical::INT32 => Scalar::Int,
            Physical::INT64 => Scalar::Long,
            Physical::DOUBLE => Scalar::Double,
            Physical::BOOLEAN => Scalar::Bool,
            _ => Scalar::Text,
        };
        leaves.push(Leaf { scalar, repeated: repetition > 0 });
        Shape::Leaf(scalar)
    } else if let Some(element) = repeated().and_then(|repeated| repeated.get_fields().first()) {
        Shape::List(repetition + 1, Box::new(node_of_file(element, repetition + 1, leaves)))
    } else {
        let members = kind.get_fields().iter().map(|field| node_of_file(field, repetition, leaves));
        Shape::Group(Members::new(members.collect()))
    };
    // Only who writes asks for it.
    Node { name: kind.name().into(), first, end: leaves.len(), single: None, shape }
}

fn parquet_type(name: &str, kind: &Kind, repetition: Repetition) -> Result<TypePtr> {
    let primitive = |physical| Type::primitive_type_builder(name, physical).with_repetition(repetition);
    let built = match kind {
        Kind::Text => primitive(Physical::BYTE_ARRAY)
            .with_converted_type(ConvertedType::UTF8)
            .with_logical_type(Some(LogicalType::String))
            .build()?,
        Kind::Int => primitive(Physical::INT32).build()?,
        Kind::Long => primitive(Physical::INT64).build()?,
        Kind::Double => primitive(Physical::DOUBLE).build()?,
        Kind::Bool => primitive(Physical::BOOLEAN).build()?,
        Kind::Group(fields) => {
            let types = fields.iter().map(|field| parquet_type(field.0, &field.1, Repetition::OPTIONAL));
            let types = types.collect::<Result<Vec<_>>>()?;
            Type::group_type_builder(name).with_repetition(repetition).with_fields(types).build()?
        }
        Kind::List(element) => {
            let element = parquet_type("element", element, Repetition::OPTIONAL)?;
            let list =
                Type::group_type_builder("list").with_repetition(Repetition::REPEATED).with_fields(vec![element]);
            Type::group_type_builder(name)
                .with_repetition(repetition)
                .with_converted_type(ConvertedType::LIST)
                .with_logical_type(Some(LogicalType::List))
                .with_fields(vec![Arc::new(list.build()?)])
                .build()?
        }
    };
    Ok(Arc::new(built))
}

#[cfg(test)]
mod tests {
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    /// The walk over our tree and the walk over Parquet's must number the columns alike.
    #[test]
    fn columns_are_those_of_parquet() {
        for class in classes::ALL.iter().copied().chain([0, 1006]) {
            let schema = Schema::of(ClassUid(class)).unwrap();
            let descriptor = SchemaDescriptor::new(Arc::clone(&schema.root));
            assert_eq!(descriptor.num_columns(), schema.leaves.len(), "{class}");
            for (index, leaf) in schema.leaves.iter().enumerate() {
                let column = descriptor.column(index);
                let physical = match leaf.scalar {
                    Scalar::Text => Physical::BYTE_ARRAY,
                    Scalar::Int => Physical::INT32,
                    Scalar::Long => Physical::INT64,
                    Scalar::Double => Physical::DOUBLE,
                    Scalar::Bool => Physical::BOOLEAN,
                };
                assert_eq!(column.physical_type(), physical, "{class} {}", column.path());
                assert_eq!(column.max_rep_level() > 0, leaf.repeated, "{class} {}", column.path());
            }
            let names: Vec<_> = schema.fields.nodes.iter().map(|field| field.name.as_ref()).collect();
            let mut once = names.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), names.len(), "{class} has a column twice");
            assert_eq!(names.last(), Some(&UNMAPPED));
            for (place, name) in names.iter().enumerate() {
                assert_eq!(schema.fields.find(name), Some(place), "{class} {name}");
            }
            assert_eq!(schema.fields.find("times"), None);
        }
    }
}
