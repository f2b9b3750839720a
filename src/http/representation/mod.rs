//! Which representation a request wants, and which part of it (RFC 9110 §8.3, §12.5.3, §13, §14): decisions without I/O.

pub mod coded;
pub mod conditions;
pub mod encodings;
pub mod media_types;
pub mod names;
pub mod ranges;
