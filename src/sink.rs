//! The sink: mapping threads, buffer, and delivery behind one type (skeleton).
