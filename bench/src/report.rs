//! Figures as text, JSON and chart, and the page of the documentation.
