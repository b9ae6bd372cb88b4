"""What the page of LPI is made of: choosing a row, an image or a text, and the sections that say why."""
