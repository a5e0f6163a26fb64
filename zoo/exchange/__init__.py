"""What the zoo gives to others and takes from them: push, pull and import, by way of the store."""
