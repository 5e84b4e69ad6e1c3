"""What a speaker said joined with what came back for it: one turn an utterance. Pure."""
