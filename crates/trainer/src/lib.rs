//! How a search learns and what it decided.
