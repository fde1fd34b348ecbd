"""What a student can be trained to have in common with its teacher."""
