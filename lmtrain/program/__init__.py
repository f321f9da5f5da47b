"""What every command needs: how it ends, where it writes, what it says, and which processes it has beside it."""
