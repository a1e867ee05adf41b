"""ncnn and pnnx files to graphs."""
