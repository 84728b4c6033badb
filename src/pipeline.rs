//! Sources and sink: start, drain, stop (skeleton).
