"""How the window looks: colours, type, drawings, and the one style sheet made of them."""
