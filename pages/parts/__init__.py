"""What the pages share: the frame, the step bar, findings, form fields, galleries, live jobs."""
