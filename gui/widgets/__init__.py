"""The parts that every page is built of. They restyle themselves when theme or text size change."""
