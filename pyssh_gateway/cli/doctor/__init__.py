"""`doctor`: finds what would keep the server from starting or a user from logging in, and says what to do."""
