//! NDJSON on standard input (skeleton).
