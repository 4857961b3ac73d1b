"""What every evaluation is written with: page, tables, figures, and what the paper says beside ours."""
