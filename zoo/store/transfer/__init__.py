"""How bytes get here: HTTP, mirrors, and the workers that fetch chunks from them into the store."""
