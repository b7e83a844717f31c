//! What a search learns from.
