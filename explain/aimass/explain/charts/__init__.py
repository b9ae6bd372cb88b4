"""Pictures of results: one theme, few kinds of chart, for screens and for papers."""
