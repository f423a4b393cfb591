// One shower of a model of `hepgan export --for ddml`, called as DDML's RegularGridGANModel calls it.
//
//   ddml MODEL.onnx ENERGY_MEV < 100 numbers, uniform in (-1, 1)    prints the energy of each cell [MeV]
#include "session.hpp"

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const Session session(argv[1]);
  const float energy = static_cast<float>(std::atof(argv[2]) / 1000);  // GeV
  std::vector<Tensor> inputs{{{1, 100, 1, 1, 1}, read_noise()}, {{1, 1, 1, 1, 1}, {energy}}};
  for (float cell : session.run(inputs)) std::printf("%.9g\n", cell);
}
